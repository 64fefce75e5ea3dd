#!/usr/bin/env bash
# Build the Horovod wheel for the torch of an environment, once; `make horovod` and the image's
# build stage call it. Horovod 0.28.1 is the last release; two lines change, because newer torch
# headers need a newer C++ standard. Needs a C++ compiler and Open MPI with its headers.
#
#   horovod.sh PYTHON CACHE    prints the wheel's path; installs it into PYTHON's environment
set -euo pipefail
unset PYTHONSAFEPATH # Horovod's setup.py imports from its own folder.

python=$1
cache=$2
version=0.28.1
sha256=92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0

say() { printf '%s\n' "$*" >&2; }
fail() { say "horovod: $1"; say "  $2"; exit 2; }

torch=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null) ||
    fail "there is no torch in the environment of $python" "Run TORCH=cpu make setup first."
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
target="$cache/horovod-$version-torch-$torch-$tag-$(uname -m)"

if ! compgen -G "$target/*.whl" >/dev/null; then
    for tool in mpicxx g++; do
        command -v "$tool" >/dev/null ||
            fail "$tool is missing" "On Debian and Ubuntu: apt-get install g++ openmpi-bin libopenmpi-dev"
    done
    case "$torch" in
        2.9.*|2.1[0-4].*) standard=17 ;;
        2.*) standard=20 ;;
        *) fail "torch $torch is not known to work" "Use torch 2.11 to 2.15." ;;
    esac
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    say "Building Horovod $version for torch $torch (C++$standard): 3 to 10 minutes, once ..."
    "$python" -m venv --system-site-packages "$work/venv"
    # The build reads torch from the environment, and its tools from one of its own.
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    echo "$site" > "$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/torch.pth"
    "$work/venv/bin/pip" install --quiet setuptools wheel packaging psutil pyyaml cloudpickle cffi cmake
    "$work/venv/bin/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: \
        --dest "$work" "horovod==$version"
    echo "$sha256  $work/horovod-$version.tar.gz" | sha256sum --check --quiet ||
        fail "the source archive has another sha256 than expected" "Check the package index."
    tar -xzf "$work/horovod-$version.tar.gz" -C "$work"
    sed -i "s/\(CMAKE_CXX_STANDARD\) 14/\1 $standard/" \
        "$work/horovod-$version/CMakeLists.txt" "$work/horovod-$version/horovod/torch/CMakeLists.txt"
    (
        export PATH="$work/venv/bin:$PATH"
        export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
        export HOROVOD_WITH_MPI=1 HOROVOD_WITH_GLOO=1
        export CMAKE_POLICY_VERSION_MINIMUM=3.5 MAKEFLAGS="-j${JOBS:-2}" LDFLAGS=-s
        "$work/venv/bin/pip" wheel --quiet --no-build-isolation --no-deps \
            --wheel-dir "$work/out" "$work/horovod-$version"
    ) >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; fail "the build failed" "Its last lines are above."; }
    mkdir -p "$target"
    mv "$work"/out/*.whl "$target/"
fi
"$python" -m pip install --quiet --no-deps --force-reinstall "$target"/*.whl
"$python" -c 'import horovod.torch' ||
    fail "the wheel does not load" "libmpi must be there at run time: apt-get install openmpi-bin"
echo "$target"/*.whl
