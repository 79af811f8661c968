import pytest

from vit_keras.slices import GENERATIONS, SLICES, get_slice


@pytest.mark.parametrize(
    ("name", "topology", "chips", "cores", "replicas", "hosts"),
    [
        ("v2-8", "v2:2x2", 4, 8, 8, 1),
        ("v3-8", "v3:2x2", 4, 8, 8, 1),
        ("v3-128", "v3:8x8", 64, 128, 128, 16),
        ("v4-8", "v4:2x2x1", 4, 8, 4, 1),
        ("v4-64", "v4:2x4x4", 32, 64, 32, 8),
        ("v5litepod-1", "v5e:1x1", 1, 1, 1, 1),
        ("v5litepod-4", "v5e:2x2", 4, 4, 4, 1),
        ("v5e-8", "v5e:2x4", 8, 8, 8, 1),
        ("v5litepod-256", "v5e:16x16", 256, 256, 256, 64),
        ("v5p-8", "v5p:2x2x1", 4, 8, 4, 1),
        ("v6e-256", "v6e:16x16", 256, 256, 256, 64),
    ],
)
def test_facts_of_a_slice(name, topology, chips, cores, replicas, hosts):
    found = get_slice(name)
    assert found.topology == topology
    assert (found.chips, found.cores, found.replicas) == (chips, cores, replicas)
    assert found.hosts == hosts
    for other in (topology, topology.replace(":", "-"), name.upper()):
        assert get_slice(other) is found


@pytest.mark.parametrize(
    ("name", "hint"),
    [("v5e-7", "v5litepod-4"), ("v7-8", "v3-8"), ("v5e:3x3", "v5litepod-8"), ("", "v2-8")],
)
def test_unknown_slices_are_refused_with_those_that_exist(name, hint):
    with pytest.raises(ValueError, match="slice is") as error:
        get_slice(name)
    assert hint in str(error.value)


def test_names_and_topologies_are_unique():
    assert len({found.topology for found in SLICES.values()}) == len(SLICES)
    assert {found.generation.name for found in SLICES.values()} == set(GENERATIONS)


def test_replicas_share_a_chip_fairly():
    for found in SLICES.values():
        assert found.memory_per_replica * found.replicas == found.generation.memory * found.chips
        assert found.peak_per_replica * found.replicas == pytest.approx(
            found.generation.peak * found.chips
        )


def test_clock_is_what_the_peak_implies():
    # 1.5 GHz is also what 6.79e12 FLOP in 51.7 million cycles at the peak come to.
    assert GENERATIONS["v5e"].clock == pytest.approx(51.7e6 * 197e12 / 6.79e12, rel=0.01)
    assert GENERATIONS["v4"].clock == pytest.approx(1.05e9, rel=0.01)  # published
    assert GENERATIONS["v3"].clock == pytest.approx(0.94e9, rel=0.01)
    assert GENERATIONS["v2"].clock == pytest.approx(0.70e9, rel=0.01)


def test_all_reduce_time():
    alone, small, large = (get_slice(name) for name in ("v5e-1", "v5e-4", "v5e-256"))
    assert alone.all_reduce_seconds(1e9) == 0.0
    assert large.all_reduce_seconds(2e9) > large.all_reduce_seconds(1e9)
    # A torus of 16 a side has twice the links that a line has, which outweighs its chips here ...
    assert large.all_reduce_seconds(1e9) < small.all_reduce_seconds(1e9)
    # ... but not where hops, not bytes, take the time.
    assert large.all_reduce_seconds(1e3) > small.all_reduce_seconds(1e3)
    # Never faster than the bytes that must leave a chip take over all of its links.
    for found in SLICES.values():
        if found.chips > 1:
            links = 2 * len(found.shape)
            least = 2 * (1 - 1 / found.chips) * 1e9 / (links * found.generation.link_rate)
            assert found.all_reduce_seconds(1e9) >= least


def test_runtime_images():
    assert get_slice("v3-8").runtime_image("2.17.0") == "tpu-vm-tf-2.17.0-pjrt"
    assert get_slice("v3-32").runtime_image("2.15.0") == "tpu-vm-tf-2.15.0-pod-pjrt"
    assert get_slice("v3-8").runtime_image("2.18.0") == "tpu-vm-tf-2.18.0-pjrt-v5p-and-below"
    assert get_slice("v5e-16").runtime_image("2.18.0") == "tpu-vm-tf-2.18.0-pod-pjrt-v5e-and-v6"
    with pytest.raises(ValueError, match=r"2\.18\.0"):
        get_slice("v3-8").runtime_image("2.19.0")
