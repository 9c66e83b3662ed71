#!/usr/bin/env bash
# Links a program for CUDA where the LLVM that burn's CUDA backend downloads cannot be had. For measuring only.
#
#   benches/cuda/link.sh --bench pytorch             a bench
#   benches/cuda/link.sh --example nanochat_sweep    an example; words after it go to cargo
#
# burn has two generators of CUDA kernels: LLVM, which is the default, and C++ through NVRTC. This takes the second, so
# that nothing of LLVM is ever called, and gives the linker a stub for each function of LLVM that it misses. The tree
# stays as it is: what is built is a workspace of links beside a changed manifest, in target/cuda-link.
#
# Everything is built anew there (45 minutes on two cores, then a minute); CARGO_TARGET_DIR names another place for it.
# The last line of the output is the program's path. What it needs at run time: docs/cuda.md.
set -euo pipefail

fail() {
    echo "link.sh: $1" >&2
    [ $# -eq 1 ] || tail -n 40 "$2" | cut -c 1-400 >&2
    exit 1
}

case ${1-} in
--bench | --example) [ $# -ge 2 ] || fail "$1 wants a name, such as: --bench pytorch" ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 2
    ;;
esac
kind=$1 name=$2
shift 2
for program in cargo cc ar; do
    command -v "$program" > /dev/null || fail "$program is missing; cc and ar come with a C compiler (gcc)"
done

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/target/cuda-link
symbols=$work/symbols stubs=$work/libllvmstubs.a log=$work/log
export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000} # runs with drivers from CUDA 12.8 on
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target}

# The workspace, of links; only the manifest of the examples is another, and the lock file a copy.
tree=$work/tree
rm -rf "$tree"
mkdir -p "$tree/examples" "$work/bin"
for entry in "$root"/*; do
    case ${entry##*/} in
    target | examples | Cargo.lock) ;;
    *) ln -s "$entry" "$tree/" ;;
    esac
done
ln -s "$root"/examples/* "$tree/examples/"
cp "$root/Cargo.lock" "$tree/"
rm "$tree/examples/Cargo.toml"
version=$(sed -n '/^name = "cubecl"$/{n;s/^version = "\(.*\)"$/\1/p}' "$root/Cargo.lock")
[ -n "$version" ] || fail "Cargo.lock has no cubecl: does this version of burn still have its CUDA backend there?"
generator="cubecl = { version = \"=$version\", default-features = false, features = [\"cuda-cpp\"] }"
sed "/^\[dependencies\]$/a $generator" "$root/examples/Cargo.toml" > "$tree/examples/Cargo.toml"

# Without downloads: what documentation is built with. `cargo rustc --` passes arguments to the last step alone.
build() {
    (cd "$tree" && DOCS_RS=1 cargo rustc --package bdh-examples --features cuda "$kind" "$name" \
        --message-format=json-render-diagnostics "$@" 2>&1 > "$work/messages") |
        { tee "$log" | grep -E '^ *(Blocking|Compiling|Downloading|Finished)' >&2 || true; }
}

# All that is missing at once: lld stops after 20 errors, and GNU ld, which does not, knows no such option.
link() {
    build "$@" -- -C "link-arg=$stubs" -C link-arg=-Wl,--error-limit=0 && return
    grep -qE '^[^"]*(unrecognized|unknown)[^"]*error-limit' "$log" && build "$@" -- -C "link-arg=$stubs"
}

stub() {
    {
        echo '#include <stdio.h>'
        echo '#include <stdlib.h>'
        echo '#define STUB(name) void name(void) { fputs(#name " of LLVM is a stub\n", stderr); abort(); }'
        sed 's/.*/STUB(&)/' "$symbols"
    } > "$work/stubs.c"
    rm -f "$stubs"
    cc -c -o "$work/stubs.o" "$work/stubs.c" || fail "cc cannot compile $work/stubs.c"
    ar rcs "$stubs" "$work/stubs.o"
}

# Undefined symbols, as lld and as GNU ld tell them.
undefined() {
    grep -oE 'undefined (symbol: |reference to `)[A-Za-z0-9_.$:]+' "$log" | sed 's/.*[ `]//' | sort -u
}

touch "$symbols"
stub
if ! link "$@"; then
    missing=$(undefined || true)
    [ -n "$missing" ] || fail "the build failed, and not for symbols that the linker misses; from $log:" "$log"
    others=$(grep -vE '^(LLVM|cubecl_)' <<< "$missing" || true)
    [ -z "$others" ] || fail "the linker misses more than LLVM: $(head -n 5 <<< "$others" | tr '\n' ' ')"
    sort -u -o "$symbols" "$symbols" - <<< "$missing"
    echo "link.sh: $(wc -l < "$symbols") functions of LLVM become stubs" >&2
    stub
    link "$@" || fail "not linked with the stubs either; from $log:" "$log"
fi

program=$(grep -o '"executable":"[^"]*"' "$work/messages" | tail -n 1 | cut -d '"' -f 4)
[ -x "$program" ] || fail "cargo named no program; see $work/messages"
cp "$program" "$work/bin/$name"
echo "$work/bin/$name"
