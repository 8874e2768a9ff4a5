"""The lakehouse that SQLMesh owns: where it is, the transform, copies between machines."""
