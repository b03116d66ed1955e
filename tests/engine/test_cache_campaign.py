"""Files of the cache with something in them changed, at random: what is wrong is thrown away, and made anew."""

from __future__ import annotations

import random
from pathlib import Path

from tests.engine.test_engine_jit import Pages, a_page, keep, made_of
from trapline.engine.cache import read_image, write_image
from trapline.engine.jit.store import RegionStore
from trapline.engine.link import Image


def changed(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one change of some kind: never the same bytes."""
    made = bytearray(data)
    place = rng.randrange(len(made))
    match rng.randrange(6):
        case 0:
            made[place] ^= 1 << rng.randrange(8)
        case 1:
            made[place : place + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
        case 2:
            del made[place:]
        case 3:
            del made[place : place + rng.randint(1, 64)]
        case 4:
            made[place:place] = rng.randbytes(rng.randint(1, 64))
        case _:
            other = rng.randrange(len(made))
            made[place : place + 64] = made[other : other + 64]
    return bytes(made) if made != data else changed(data, rng)


def test_no_changed_image_is_taken(tmp_path: Path) -> None:
    """An image with any change in its magic, digest, symbols or code is as if it were not there; a new one is kept."""
    rng, path = random.Random(9), tmp_path / "native.bin"
    image = Image(rng.randbytes(3000), {f"symbol_{n}": n * 16 for n in range(60)})
    write_image(path, image)
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(changed(whole, rng))
        assert read_image(path) is None
    write_image(path, image)
    assert read_image(path) == image


def test_no_changed_region_is_run(tmp_path: Path) -> None:
    """A file of regions with any change gives the region that was kept or none, and takes new ones afterwards."""
    rng, path = random.Random(10), tmp_path / "r.sqlite"
    page = a_page(bytes(range(64)))
    source = made_of(page, [(8, 40)])
    store = RegionStore("I", path)
    keep(store, source, b"code" * 100, 7)
    store.close()
    whole, lost = path.read_bytes(), 0
    for _ in range(60):
        path.write_bytes(changed(whole, rng))
        path.chmod(0o600)
        store = RegionStore("I", path)
        found = store.find(Pages(page), 8)
        assert found in (None, (source, b"code" * 100, source.digest()))
        if found is None:
            lost += 1
            keep(store, source, b"code" * 100, 7)
        store.close()
        again = RegionStore("I", path)
        assert again.find(Pages(page), 8) is not None
        again.close()
    assert lost > 5
