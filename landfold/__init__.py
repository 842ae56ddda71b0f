"""Land-cover maps with honest accuracy from multi-band satellite scenes.

In a notebook: `open_scene` reads reflectance; `spatial_folds` and `random_folds` fold a table of footprints for
scikit-learn; `audit_folds` measures how optimistic random folds are; `load_classifier` and `predict` use a trained
model folder. Each is imported when it is first used. docs/library.md has an example.
"""

import os
from importlib import import_module

__version__ = "0.1.0"

# The same instructions on every x86-64 processor with AVX2, so that results are the same bytes: otherwise torch and the
# libraries below it take wider ones where there are any, which round differently. They are read when torch is loaded.
for _name, _value in (
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("OPENBLAS_CORETYPE", "Haswell"),
):
    os.environ.setdefault(_name, _value)

_MODULE_OF = {
    "FoldWarning": "landfold.library.folds",
    "LandfoldError": "landfold.core.errors",
    "audit_folds": "landfold.library.audit",
    "load_classifier": "landfold.library.maps",
    "open_scene": "landfold.library.scene",
    "predict": "landfold.library.maps",
    "random_folds": "landfold.library.folds",
    "spatial_folds": "landfold.library.folds",
}

__all__ = ["__version__", *_MODULE_OF]  # noqa: PLE0604 - the keys are text


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'landfold' has no attribute '{name}'; it offers {', '.join(_MODULE_OF)}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
