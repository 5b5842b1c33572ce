"""Many devices: mesh, dispatch, pipeline, plan (K2 §2.4)."""
