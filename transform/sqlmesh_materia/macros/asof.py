"""The as-of macros, created beside the serving tables of whatever environment is planned."""

from sqlmesh import macro


@macro()
def create_psd_asof(evaluator):
    """What did USDA say on day X?"""
    from dataflows.serving.asof import asof_macros

    return asof_macros(f"lakehouse.{serving_schema(evaluator)}")[0]


@macro()
def create_psd_asof_coverage(evaluator):
    """How much of it is certain, uncertain, unknown?"""
    from dataflows.serving.asof import asof_macros

    return asof_macros(f"lakehouse.{serving_schema(evaluator)}")[1]


def serving_schema(evaluator):
    """The schema of the environment that is planned."""
    environment = evaluator.locals.get("this_env", "prod")
    return "serving" if environment == "prod" else f"serving__{environment}"
