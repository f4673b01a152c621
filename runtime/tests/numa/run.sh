#!/bin/sh
# Boots small machines with several NUMA nodes in QEMU and checks there that memory and partitions lie where they are meant to. With planted bugs
# that must be found it boots again. Kernel, QEMU and busybox are Debian's packages, unpacked under target/numa, not installed; they are fetched once.
set -eu
cd "$(dirname "$0")/../../.."
here=runtime/tests/numa
mkdir -p "${CARGO_TARGET_DIR:-target}/numa"
work=$(cd "${CARGO_TARGET_DIR:-target}/numa" && pwd)
root=$work/root
# A guest is done in a quarter of a minute, on a busy host in a few.
deadline=${NUMA_DEADLINE:-300}

lacks() {
  echo "make test-numa: $1" >&2
  exit 2
}

# Unpacks the packages and all libraries that QEMU needs and this machine does not have.
fetch() {
  [ "$(uname -m)" = x86_64 ] || lacks "the guests are x86-64, this is $(uname -m)"
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || lacks "needs apt-get and dpkg, to fetch and unpack packages of Debian"
  rm -rf "$work/debs" "$root"
  mkdir -p "$work/debs" "$root"
  kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\)/\1/p' | head -n 1)
  libraries=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances qemu-system-x86 |
    grep '^lib' | sort -u | while read -r name; do
      dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || apt-cache show "$name" 2>/dev/null | sed -n 's/^Package: //p' | head -n 1
    done)
  echo "fetching $kernel, QEMU and busybox (about 40 MB, once)"
  # shellcheck disable=SC2086 # a list of words
  (cd "$work/debs" && apt-get download -qq "$kernel" qemu-system-x86 qemu-system-common qemu-system-data seabios busybox-static $libraries 2>/dev/null) ||
    lacks "the packages cannot be fetched (apt-get update may help)"
  for package in "$work"/debs/*.deb; do dpkg -x "$package" "$root"; done
  rm -rf "$work/debs" "$root/lib/modules" "$root/usr/share/doc"
  touch "$root/complete"
}

# Builds the guest's program, with these features, and packs it with the libraries that it needs. $1: name of the image.
pack() {
  image=$1
  shift
  # shellcheck disable=SC2086 # a list of words
  ${CARGO:-cargo} build --quiet --config profile.dev.package.corelane.opt-level=1 -p corelane --example numa_guest "$@"
  rm -rf "$work/guest"
  mkdir -p "$work/guest/bin"
  cp "$root/bin/busybox" "$work/guest/bin/"
  cp "$here/init" "$work/guest/init"
  program=${CARGO_TARGET_DIR:-target}/debug/examples/numa_guest
  cp "$program" "$work/guest/"
  strip "$work/guest/numa_guest" 2>/dev/null || true
  ldd "$program" | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*/\1/p' | while read -r library; do
    mkdir -p "$work/guest$(dirname "$library")"
    cp -L "$library" "$work/guest$library"
  done
  (cd "$work/guest" && find . | "$root/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) > "$work/$image.gz"
}

# Boots the image $1 as the machine $2; the rest are QEMU's options for it. What the guest says is in the log.
boot() {
  image=$1
  machine=$2
  shift 2
  log=$work/$image-$machine.log
  # Emulated everywhere, so that it is the same everywhere: that /dev/kvm can be opened would prove nothing.
  libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
  LD_LIBRARY_PATH=$libraries QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu timeout "$deadline" \
    "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
    -nodefaults -no-user-config -display none -serial stdio -monitor none -no-reboot -machine q35 -accel tcg,thread=multi \
    -cpu max,vendor=GenuineIntel -kernel "$root"/boot/vmlinuz-* -initrd "$work/$image.gz" "$@" </dev/null >"$log" 2>&1 ||
    { tail -n 20 "$log"; lacks "the machine $machine did not end in $deadline s; see $log"; }
  grep -aq 'corelane-guest: [0-9]* failed' "$log" || { tail -n 20 "$log"; lacks "the machine $machine ended without a word; see $log"; }
}

# 512 MB in two nodes of 4 CPUs, two threads to a core.
two() {
  boot "$1" two -m 512M -smp 8,sockets=2,cores=2,threads=2 $(node 0 0-3) $(node 1 4-7) -numa dist,src=0,dst=1,val=21 \
    -append "console=ttyS0 quiet panic=-1 corelane.machine=two"
}

# 1 GB in four nodes of 4 CPUs, two dies with a cache each to a node. The last CPU is kept free.
four() {
  boot "$1" four -m 1G -smp 16,sockets=2,dies=4,cores=2,threads=1 $(node 0 0-3) $(node 1 4-7) $(node 2 8-11) $(node 3 12-15) \
    -append "console=ttyS0 quiet panic=-1 isolcpus=15 corelane.machine=four"
}

node() {
  echo "-object memory-backend-ram,id=memory$1,size=256M -numa node,nodeid=$1,cpus=$2,memdev=memory$1"
}

# The guest of this log has found nothing wrong.
green() {
  if grep -aq 'corelane-guest: 0 failed' "$1"; then
    echo "ok: $1: $(grep -ac '^  ok ' "$1") checks hold"
  else
    grep -aE '^[a-z]|^ [^ ]|FAIL|panicked' "$1" | grep -aB 2 -E 'FAIL|panicked'
    echo "FAILED: $1"
    exit 1
  fi
}

# The guest of this log has found that the check that matches $2 does not hold.
red() {
  if grep -aq "FAIL  .*$2" "$1"; then
    echo "ok: the planted bug is found: $(grep -am 1 "FAIL  .*$2" "$1" | cut -c 1-100)"
  else
    echo "FAILED: $1: the planted bug is not found"
    exit 1
  fi
}

[ -e "$root/complete" ] || fetch
pack guest
two guest
green "$work/guest-two.log"
four guest
green "$work/guest-four.log"
pack ring --features bug_ring_on_wrong_node
two ring
red "$work/ring-two.log" 'rings lie on the node of their consumer'
pack pin --features bug_pin_skipped
two pin
red "$work/pin-two.log" 'rent is pinned'
