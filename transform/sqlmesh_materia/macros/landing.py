"""Where the landing is. Read when a query runs, so that moving the data directory rebuilds nothing."""

from sqlglot import exp
from sqlmesh import macro


@macro()
def landing_glob(evaluator, pattern):
    """The files of the landing that match `pattern`, in which `{dataset}` is the one this lakehouse serves."""
    from ops.settings import Settings

    settings = Settings.from_environ()
    return exp.Literal.string(str(settings.landing_dir / pattern.name.format(dataset=settings.dataset)))


@macro()
def dataset(evaluator):
    """The one dataset that this lakehouse serves, such as `psd_alldata`."""
    from ops.settings import Settings

    return exp.Literal.string(Settings.from_environ().dataset)
