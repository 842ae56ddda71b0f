"""Maps: a window slid over a scene, and what it finds as rasters, polygons, styles and STAC items for a GIS."""
