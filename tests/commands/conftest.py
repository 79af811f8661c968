"""Real data in the forms that the command line takes."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """{train,test}/{china,flower}/*.jpg|png: crops of scikit-learn's two photos."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        for split, count in (("train", 24), ("test", 7)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                height, width = rng.integers(60, 200, size=2)
                top = rng.integers(0, photo.shape[0] - height)
                left = rng.integers(0, photo.shape[1] - width)
                crop = Image.fromarray(photo[top : top + height, left : left + width])
                ending = "png" if index % 5 == 0 else "jpg"
                crop.save(folder / split / name / f"{index}.{ending}")
    return folder
