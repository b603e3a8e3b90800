#!/usr/bin/env bash
# Installs what a bare Debian or Ubuntu machine lacks to build and test Stanchion, and says what it does.
#
#   tools/bootstrap.sh build    compiler packages and Rust: enough for `make run`
#   tools/bootstrap.sh test     that, cargo-nextest, libfaketime, and a Python virtual environment filled from tests/requirements.lock
#
# Called by the Makefile. Never touches anything when nothing is missing, never writes into the checkout, never changes a
# system Python. Safe to run again.
set -euo pipefail

RUST_MIN=90 # the minor of `rust-version` in Cargo.toml
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${STANCHION_CACHE:-$HOME/.cache/stanchion}
VENV=${VENV:-$CACHE/venv}
export PATH="$HOME/.cargo/bin:$PATH"

say() { printf 'bootstrap: %s\n' "$*"; }
die() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo; then sudo "$@"
  else die "need root for: $* (run it as root, then start again)"; fi
}

APT_FRESH=
apt_install() {
  have apt-get || die "missing: $*. This script knows only apt-get; install the like of these packages and start again"
  if [ -z "$APT_FRESH" ]; then say "apt-get update"; as_root apt-get update -qq; APT_FRESH=1; fi
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Whether this release has the package at all: not every one has rustup.
apt_offers() { have apt-cache && apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

# The library that bindgen loads, and not libclang-cpp, which LLVM's own tools bring along without it.
libclang_present() {
  [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p 2>/dev/null | grep -qE 'libclang(-[0-9.]+)?\.so' ||
    compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null || compgen -G '/usr/lib/llvm-*/lib/libclang-[0-9]*.so*' >/dev/null
}

system_packages() {
  local want=()
  have gcc || want+=(gcc)
  have g++ || want+=(g++)
  have make || want+=(make)
  have pkg-config || want+=(pkg-config)
  have curl || want+=(curl)
  have git || want+=(git)
  [ -e /etc/ssl/certs/ca-certificates.crt ] || want+=(ca-certificates)
  compgen -G '/usr/include/*/bits/types.h' >/dev/null || [ -e /usr/include/bits/types.h ] || want+=(libc6-dev)
  # RocksDB's bindings are generated with libclang; clang brings the compiler headers that it reads.
  libclang_present || want+=(clang libclang-dev)
  [ ${#want[@]} = 0 ] || apt_install "${want[@]}"
}

# Fakes the wall clock of nodes in the fault tests. Without it those faults say that they cannot be done.
faketime() {
  compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || [ -e /usr/lib/faketime/libfaketimeMT.so.1 ] || apt_install faketime
}

rust_minor() { cargo --version 2>/dev/null | sed -nE 's/^cargo 1\.([0-9]+)\..*/\1/p'; }

rust() {
  if ! have cargo; then
    if ! have rustup && apt_offers rustup; then apt_install rustup; fi
    if have rustup; then
      say "rustup default stable"
      rustup -q default stable
    else
      say "installing Rust with rustup's own installer into ~/.cargo"
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal -c rustfmt -c clippy ||
        die "could not install Rust; install 1.$RUST_MIN or newer (https://rustup.rs) and start again"
    fi
  fi
  local minor
  minor=$(rust_minor)
  if [ "${minor:-0}" -lt "$RUST_MIN" ]; then
    have rustup || die "cargo is 1.${minor:-?}, Stanchion needs 1.$RUST_MIN or newer, and there is no rustup to update it"
    say "cargo is 1.${minor:-?}, needs 1.$RUST_MIN: rustup update stable"
    rustup -q update stable
    minor=$(rust_minor)
    [ "${minor:-0}" -ge "$RUST_MIN" ] || die "cargo is still 1.${minor:-?}; is another toolchain pinned (rustup show)?"
  fi
  if have rustup; then
    cargo fmt --version >/dev/null 2>&1 || { say "rustup component add rustfmt"; rustup -q component add rustfmt; }
    cargo clippy --version >/dev/null 2>&1 || { say "rustup component add clippy"; rustup -q component add clippy; }
  fi
}

nextest() {
  cargo nextest --version >/dev/null 2>&1 && return
  say "cargo install cargo-nextest --locked (a few minutes)"
  # Its own target folder: a test runner's dependencies have no business in the project's.
  CARGO_TARGET_DIR="$CACHE/nextest-target" cargo install cargo-nextest --locked -q ||
    say "cargo-nextest could not be installed: tests run with cargo test instead"
  rm -rf "$CACHE/nextest-target"
}

# is_python PATH MINOR: is it a Python of that minor or newer that can make virtual environments?
is_python() { "$1" -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, $2))" >/dev/null 2>&1; }

# Prints the path of a Python of 3.12 or newer: pyenv's, one on the PATH, or one that uv fetches. Where none can be had, the
# system's own of 3.11 does for the tests, and is said to be used.
find_python() {
  local p
  for p in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python; do
    if [ -x "$p" ] && is_python "$p" 12; then echo "$p"; return; fi
  done
  for p in python3.12 python3.13 python3.14 python3; do
    if have "$p" && is_python "$p" 12; then command -v "$p"; return; fi
  done
  have python3 && python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || apt_install python3 python3-venv >&2
  if is_python python3 12; then command -v python3; return; fi
  say "no Python of 3.12 or newer here: uv fetches one into $CACHE" >&2
  if { [ -x "$CACHE/uv/bin/uv" ] || { python3 -m venv "$CACHE/uv" && "$CACHE/uv/bin/pip" install -q uv >&2; }; } &&
    UV_PYTHON_INSTALL_DIR="$CACHE/python" "$CACHE/uv/bin/uv" python install -q 3.12 >&2; then
    UV_PYTHON_INSTALL_DIR="$CACHE/python" "$CACHE/uv/bin/uv" python find 3.12
    return
  fi
  is_python python3 11 || die "uv could not fetch Python 3.12; install a Python of 3.12 or newer yourself"
  say "uv could not fetch Python 3.12: going on with the system's $(python3 --version)" >&2
  command -v python3
}

python_packages() {
  local lock="$ROOT/tests/requirements.lock" stamp="$VENV/.requirements.lock" python
  cmp -s "$lock" "$stamp" && return
  if [ ! -x "$VENV/bin/python" ] || ! is_python "$VENV/bin/python" 11; then
    python=$(find_python)
    say "creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
  fi
  say "installing tests/requirements.lock into $VENV"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$lock"
  cp "$lock" "$stamp"
}

case ${1:-} in
  build) system_packages; rust ;;
  test) system_packages; faketime; rust; nextest; python_packages ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 64 ;;
esac
