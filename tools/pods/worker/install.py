"""Runs on every worker: installs the project beside the image's TensorFlow, and reports versions.

  python3 install.py SPEC.json

Standard library only. The packages go into an environment of their own that sees the image's, so
nothing of the image is changed. The last line printed is the report, as JSON.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
REPORT = """
import importlib.metadata as metadata, importlib.util, json, pathlib, sys
names = ["vit-keras-tpu", "tensorflow", "tensorflow-tpu", "libtpu", "keras", "tensorflow-addons",
         "tensorflow-datasets", "ml-collections", "numpy", "protobuf", "cloud-tpu-client"]
found = {}
for name in names:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
libtpu = None
spec = importlib.util.find_spec("libtpu")
if spec and spec.origin:
    libtpu = str(pathlib.Path(spec.origin).with_name("libtpu.so"))
for path in ["/lib/libtpu.so", "/usr/lib/libtpu.so"]:
    if not libtpu and pathlib.Path(path).exists():
        libtpu = path
print(json.dumps({"packages": found, "libtpu": libtpu}))
"""


def main():
    """Installs, unless that has happened, and reports."""
    spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        sys.exit(f"This image has Python {platform.python_version()}; expected 3.10 to 3.13.")
    wheel = HERE / spec["wheel"]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != spec["sha256"]:
        sys.exit(f"{wheel.name} arrived with digest {digest}; expected {spec['sha256']}.")
    environment = HERE / "env"
    python = environment / "bin" / "python"
    stamp = environment / "installed.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != spec:
        # The image's pip is used, so the image needs no ensurepip.
        venv.create(environment, system_site_packages=True, with_pip=False)
        (HERE / "constraints.txt").write_text("\n".join(spec["constraints"]) + "\n")
        install(python, spec, wheel)
        stamp.write_text(json.dumps(spec))
    seen = subprocess.run([python, "-c", REPORT], capture_output=True, text=True, check=True)
    report = json.loads(seen.stdout)
    report["python"] = platform.python_version()
    report["interpreter"] = str(python)
    print(json.dumps(report))


def install(python, spec, wheel):
    """Installs the wheel, with the image's TensorFlow as a fixed part of what pip solves."""
    requirements = [str(wheel), *spec["requirements"]]
    if spec["tensorflow"]:
        requirements.append(image_tensorflow(spec["tensorflow"]))
    command = [
        python, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off",
        "--constraint", HERE / "constraints.txt",
        "--find-links", "https://storage.googleapis.com/libtpu-tf-releases/index.html",
        *requirements,
    ]  # fmt: skip
    if spec["offline"]:
        command[4:4] = ["--no-index"]
        del command[command.index("--find-links") : command.index("--find-links") + 2]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (HERE / "install.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"pip failed on {platform.node()}:\n{(done.stdout + done.stderr)[-3000:]}")


def image_tensorflow(version):
    """The image's own TensorFlow as a requirement, so that pip keeps it."""
    found = {}
    for name in ["tensorflow", "tensorflow-tpu"]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if not found:
        # Users report that the image of 2.18 wants its TensorFlow installed.
        return f"tensorflow-tpu=={version}"
    name, has = next(iter(found.items()))
    if has.split("+")[0].split("-")[0] != version:
        sys.exit(f"{platform.node()} has {name} {has}; the runtime image should have {version}.")
    return f"{name}=={has}"


if __name__ == "__main__":
    main()
