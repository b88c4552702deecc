"""k-diffusion's modules. The package says nothing of its types; the stub beside this file does."""

from __future__ import annotations

from ._packages import require

require("k_diffusion")
from k_diffusion import config, external, layers  # noqa: E402

__all__ = ["config", "external", "layers"]
