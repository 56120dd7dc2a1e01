"""Activity types and what executes them: one module each, registered in ``registry``."""
