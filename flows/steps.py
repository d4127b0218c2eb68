"""One piece of work of a flow as one task run."""

from collections.abc import Callable
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.endings import ends_in_words

T = TypeVar("T")


def run_step(name: str, work: Callable[[], T]) -> T:
    """`work` as one task run, never retried. It takes no arguments: Prefect would search a whole plan for futures."""

    # With retries=0 Prefect logs the reason three times over, and an empty traceback.
    @task(
        name=name,
        task_run_name=name,
        retries=1,
        retry_condition_fn=lambda *_: False,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    @ends_in_words
    def step() -> T:
        return work()

    # The state's result, since a task hands back a state that its function returns as it is.
    return step(return_state=True).result()
