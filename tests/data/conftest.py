import pathlib
import sys

# The helpers of this folder's tests; test modules are imported one by one, not as a package.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
