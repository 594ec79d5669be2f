"""Properties of materials, computed with any ASE calculator; one module each."""
