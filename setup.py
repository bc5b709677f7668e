import re
import sys
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))           # pip builds without the current directory on the path
import setup_wheel  # noqa: E402

VERSION = re.search(r'__version__ = "(.+)"', (HERE / setup_wheel.NAME / "__init__.py").read_text(encoding="utf-8"))[1]
EXTRAS = {
    "atari": ["ale-py>=0.12.0"],
    "tensorflow": ["tensorflow>=2.19.0"],           # the reference backend, and TensorFlow 1 checkpoints
    "bench": ["stable-baselines3>=2.9.0", "sbx-rl>=0.28.0"],        # benchmarks/speed.py compares with them
    "sb3": ["stable-baselines3>=2.9.0"],            # return_decomposition.sb3
    "notebook": ["ipykernel>=6.29"],                # docs/notebooks
    "optuna": ["optuna>=4.0"],                      # sweep.py --search
    "onnx": ["onnx>=1.19", "onnxscript>=0.5.4", "onnxruntime>=1.22"],       # rrd export --format onnx
    "tensorboard": ["tensorboard>=2.18"],           # to look at the logs; writing them needs nothing more
    "track": ["wandb>=0.19.10"],                    # --track
    "plot": ["matplotlib>=3.9", "jinja2>=3.1.3"],   # plot.py, report.py
    "video": ["imageio>=2.34", "imageio-ffmpeg>=0.5"],
    "minari": ["minari>=0.5.4", "h5py>=3.8.0"],     # relabel.py
    "ray": ["ray>=2.40"],                           # sweep.py --engine=ray
    "torchrl": ["torchrl>=0.14.1", "tensordict>=0.14.3"],           # torchrl_gpu/, adapters/torchrl.py
    "docs": ["sphinx>=9.0", "myst-parser>=5.0", "furo>=2025.12.19", "docutils>=0.22"],      # make docs
}
EXTRAS["test"] = ["pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6.150", "jsonschema>=4.20", "playwright>=1.48",
                  "ruff>=0.8", "setuptools>=77", "tensorflow-cpu>=2.19.0",
                  "nbclient>=0.10", "nbformat>=5.10",
                  # not "bench": SBX and its JAX are 700 MB, which no other test needs
                  *(need for name in ("atari", "sb3", "plot", "video", "minari", "ray", "torchrl", "onnx", "optuna",
                                      "notebook", "docs")
                    for need in EXTRAS[name])]

setup(
    name="return-decomposition",
    version=VERSION,
    description="Randomized Return Decomposition: reinforcement learning from the return of whole episodes",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    **setup_wheel.wheel(),              # one package; an editable install keeps the names of the repository
    cmdclass=setup_wheel.COMMANDS,
    entry_points={"console_scripts": ["rrd = return_decomposition.cli:start"]},
    install_requires=[
        "torch>=2.10.0",
        "numpy>=2.0.0",
        "gymnasium[mujoco]>=1.1.0",
        "mujoco>=3.2.7",
        "opencv-python-headless>=4.10.0.84",
        "safetensors>=0.7.0",
        "tensorboardX>=2.6.2.2",
        "rich>=14.3.0",
        "shtab>=1.12.0",                # --completion; 30 kB, imported only there
    ],
    extras_require=EXTRAS,
)
