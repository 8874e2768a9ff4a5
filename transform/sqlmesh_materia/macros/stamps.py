"""What a stamp proves."""

from sqlmesh import macro


@macro()
def stamp_is_proof(evaluator, month, previous_month, stamped_from, previous_shown_from):
    """Whether a stamp proves that what a release shows has stood since `stamped_from`.

    Not if the release before shows something else on a later day, and not if the sheet kept its stamp. A stamp of the
    very month of the release before counts only if it is newer than the one that the sheet had there.
    """
    return (
        f"({stamped_from} > {previous_shown_from}"
        f" AND ({month} > {previous_shown_from} OR COALESCE({month} > {previous_month}, FALSE)))"
    )
