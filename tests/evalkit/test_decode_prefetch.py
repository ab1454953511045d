"""Work done prefetch: in order, within its budget of bytes, and never stuck."""

import threading
import time
from contextlib import closing

import pytest
from PIL import Image

from evalkit.io.image_reader import Pixels
from evalkit.metric_spec.pixel_metric import Measure
from evalkit.run.feature_cache import MemoryFeatureStore
from evalkit.scoring.decode_prefetch import prefetch
from evalkit.scoring.feature_extraction import STRIDE, FeatureRequest, extract


def run(sizes, *, budget, threads=2, depth=20, slow=()):
    """Return the results in order, and the most that waited while the next was taken slowly."""
    lock, waiting, most = threading.Lock(), [0], [0]

    def work(item):
        number, size = item
        time.sleep(0.05 if number in slow else 0)
        with lock:
            waiting[0] += size
            most[0] = max(most[0], waiting[0])
        return item

    found = []
    for item, future in prefetch(
        list(enumerate(sizes)), work, lambda made: made[1], threads=threads, depth=depth, budget=budget
    ):
        assert future.result() == item
        time.sleep(0.005)
        with lock:
            waiting[0] -= item[1]
        found.append(item[0])
    return found, most[0]


def test_results_come_in_order_whichever_is_ready_first():
    found, _ = run([1] * 30, budget=1000, slow=(0, 7, 8))
    assert found == list(range(30))


def test_large_results_wait_only_within_the_budget_and_one_per_thread():
    found, most = run([100] * 30, budget=250)
    assert len(found) == 30
    # three fill the budget; each thread may have begun before it was full, and one more is being taken
    assert most <= 250 + 100 * 4


def test_a_slow_one_in_front_never_stops_everything():
    found, _ = run([100] * 10, budget=1, slow=(0, 3))
    assert found == list(range(10))


def test_errors_come_with_their_item_and_stop_nothing():
    def work(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = {item: future for item, future in prefetch(range(6), work, lambda _: 1, threads=2, depth=3, budget=2)}
    with pytest.raises(ValueError, match="three"):
        results.pop(3).result()
    assert {item: future.result() for item, future in results.items()} == {0: 0, 1: 1, 2: 2, 4: 4, 5: 5}


def test_whoever_stops_taking_leaves_no_thread_behind():
    before = threading.active_count()
    with closing(prefetch(range(100), lambda item: item, lambda _: 100, threads=2, depth=50, budget=1)) as coming:
        next(coming)
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_of_any_number_of_pictures_few_are_held_and_none_is_decoded_twice():
    taken = [0]
    done = [0]
    waiting = []

    def come():
        for number in range(3_000):
            taken[0] += 1
            waiting.append(taken[0] - done[0])
            shade = number % 1_000
            picture = Pixels(Image.new("RGB", (4, 4), (shade % 250, shade // 250, 0)))
            yield FeatureRequest(f"{shade:04x}", str(number), lambda picture=picture: picture, ("shade",))

    def count(finished):
        done[0] += finished

    shade = Measure("shade", lambda pixels: pixels.mean())
    tally = extract(come(), {"shade": shade}, MemoryFeatureStore(), batch_size=8, progress=count, workers=2)
    assert done == [3_000]
    assert tally.decodes == 1_000
    assert max(waiting) <= 2 * STRIDE
