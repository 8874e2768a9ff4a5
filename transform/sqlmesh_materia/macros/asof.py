"""The as-of macros, created beside the serving tables of the planned environment."""

from sqlmesh import macro


@macro()
def create_asof_macros(evaluator):
    """Create the as-of macros. Executed here: SQLGlot does not parse a default parameter, as a statement must be."""
    from dataflows.serving.asof import asof_macros

    if evaluator.runtime_stage == "after_all" and evaluator.gateway != "spark":
        for statement in asof_macros(f"lakehouse.{serving_schema(evaluator)}"):
            evaluator.engine_adapter.execute(statement)
    return "SELECT 1 AS nothing"  # SQLMesh warns of a statement that renders to nothing


def serving_schema(evaluator):
    """The schema of the environment that is planned."""
    environment = evaluator.locals.get("this_env", "prod")
    return "serving" if environment == "prod" else f"serving__{environment}"
