"""What `import landfold` offers a notebook: plain arguments and defaults over the pipeline's own code."""
