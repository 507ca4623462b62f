"""Meters: an NVML that resets, runs backward, jumps, or does not answer; and the model of the CPU."""

import pytest
from fakes import FakeNvml, FakeNvmlError
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.energy.meters import CpuModel, NvmlMeter, machine_cpu_name, own_cpu_seconds
from carbon_nas.errors import ExecutorError
from carbon_nas.model import EnergyMethod, EnergyReading

COUNTER, POWER = EnergyMethod.COUNTER, EnergyMethod.POWER
UNSUPPORTED = FakeNvmlError(FakeNvml.NVML_ERROR_NOT_SUPPORTED)
LOST = FakeNvmlError(FakeNvml.NVML_ERROR_GPU_IS_LOST)


class Bench:
    """A meter on a fake GPU that draws 100 W and may draw 300; `read` lets 10 seconds pass first."""

    def __init__(self, **answers):
        self.nvml = FakeNvml(**answers)
        self.seconds = 0.0
        self.meter = NvmlMeter("GPU-1", self.nvml, now=lambda: self.seconds)

    def read(self, *, seconds=10.0, **answers):
        self.seconds += seconds
        for name, value in answers.items():
            setattr(self.nvml, name, value)
        return self.meter.read()


def test_a_counter_is_read_in_joules():
    bench = Bench()
    assert bench.meter.device == "gpu/GPU-1"
    assert bench.read(millijoules=5_000_000) == EnergyReading(5000.0, COUNTER)
    assert bench.read(millijoules=5_000_000) == EnergyReading(5000.0, COUNTER)
    assert bench.read(millijoules=5_900_500) == EnergyReading(5900.5, COUNTER)


@pytest.mark.parametrize(
    ("glitch", "what"),
    [(0, "reset by a new driver"), (4_999_999, "one step back"), (10**15, "a jump that no board can draw")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_counter_that_cannot_be_right_costs_no_joule_and_adds_none(glitch, what):
    bench = Bench()
    bench.read(millijoules=5_000_000)
    assert bench.read(millijoules=glitch) == EnergyReading(6000.0, POWER), what
    assert bench.read(millijoules=glitch + 900_000) == EnergyReading(6900.0, COUNTER)


def test_a_counter_that_jumps_and_comes_back():
    bench = Bench()
    bench.read(millijoules=5_000_000)
    assert bench.read(millijoules=10**15).joules == 6000.0
    assert bench.read(millijoules=7_000_000) == EnergyReading(7000.0, POWER)
    assert bench.read(millijoules=8_000_000) == EnergyReading(8000.0, COUNTER)


@pytest.mark.parametrize(("step_watts", "method"), [(300, COUNTER), (480, COUNTER), (520, POWER)])
def test_a_step_is_believed_up_to_half_above_the_limit_and_a_second_of_grace(step_watts, method):
    bench = Bench()
    bench.read(millijoules=0)
    assert bench.read(millijoules=step_watts * 10_000).method is method  # 450 W x 11 s = 495 W x 10 s


def test_without_a_counter_power_is_integrated():
    bench = Bench(millijoules=UNSUPPORTED)
    assert bench.read() == EnergyReading(0.0, POWER)
    assert bench.read() == EnergyReading(1000.0, POWER)
    assert bench.read(milliwatts=50_000, seconds=2) == EnergyReading(1100.0, POWER)


def test_a_counter_that_comes_and_goes():
    bench = Bench(millijoules=1_000_000)
    assert bench.read() == EnergyReading(1000.0, COUNTER)
    assert bench.read(millijoules=UNSUPPORTED) == EnergyReading(2000.0, POWER)
    assert bench.read(millijoules=3_100_000) == EnergyReading(3000.0, POWER)
    assert bench.read(millijoules=4_100_000) == EnergyReading(4000.0, COUNTER)


def test_a_board_that_tells_no_limit_is_measured_all_the_same():
    bench = Bench(limit_milliwatts=UNSUPPORTED)
    bench.read(millijoules=1_000_000)
    assert bench.read(millijoules=2_000_000) == EnergyReading(2000.0, COUNTER)
    assert bench.read(millijoules=1_000_000) == EnergyReading(3000.0, POWER)


@pytest.mark.parametrize(
    "trouble",
    [
        {"gone": True},
        {"millijoules": LOST},
        {"limit_milliwatts": LOST},
        {"millijoules": UNSUPPORTED, "milliwatts": LOST},
        {"millijoules": UNSUPPORTED, "milliwatts": UNSUPPORTED},
    ],
    ids="+".join,
)
def test_a_gpu_that_does_not_answer_is_an_error_and_the_next_reading_covers_the_gap(trouble):
    bench = Bench()
    bench.read(millijoules=1_000_000)
    with pytest.raises(ExecutorError, match="GPU GPU-1 cannot be read: NVML"):
        bench.read(**trouble)
    well = {"gone": False, "milliwatts": 100_000.0, "limit_milliwatts": 300_000.0}
    assert bench.read(**well, millijoules=3_000_000) == EnergyReading(3000.0, COUNTER)


def test_a_gpu_that_does_not_answer_at_first():
    bench = Bench(gone=True)
    with pytest.raises(ExecutorError):
        bench.read()
    assert bench.read(gone=False, millijoules=7_000) == EnergyReading(7.0, COUNTER)


ANSWERS = st.one_of(st.integers(0, 10**13), st.sampled_from([UNSUPPORTED, LOST]))


@given(st.lists(st.tuples(ANSWERS, st.floats(0.0, 1000.0)), max_size=20))
def test_whatever_nvml_says_joules_never_fall_and_never_exceed_what_a_board_can_draw(script):
    bench = Bench(millijoules=0)
    last, since = bench.read(seconds=0.0).joules, 0.0
    for answer, seconds in script:
        since += seconds
        try:
            now = bench.read(millijoules=answer, seconds=seconds).joules
        except ExecutorError:
            continue
        assert 0 <= now - last <= 450.0 * (since + 1) * (1 + 1e-9)
        last, since = now, 0.0


def test_the_model_of_the_cpu_is_watts_times_busy_seconds():
    assert CpuModel(12.0).joules(2.5) == 30.0
    assert CpuModel(12.0).joules(0.0) == 0.0


def test_our_own_cpu_seconds_grow_with_work():
    before = own_cpu_seconds()
    while own_cpu_seconds() <= before:
        sum(range(10_000))
    assert before > 0


def test_the_processor_is_named_as_the_kernel_names_it(tmp_path):
    info = tmp_path / "cpuinfo"
    assert machine_cpu_name(info) == "CPU"
    info.write_text("processor\t: 0\nvendor\t: x\n")
    assert machine_cpu_name(info) == "CPU"
    info.write_text("processor\t: 0\nmodel name\t: Made Up: 9000 @ 3 GHz\nflags\t: x\n")
    assert machine_cpu_name(info) == "Made Up: 9000 @ 3 GHz"
