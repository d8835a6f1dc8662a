#!/usr/bin/env bash
# Makes a base image from this machine: the shared libraries that the programs named need, certificates of the public
# authorities, two users, and nothing else: no shell, no package manager.
#
#   deploy/base.sh [--tools] TAG PROGRAM...
#
#   --tools   the programs named go in too, into /usr/bin, and OpenSSL's settings: an image for jobs with a shell
#
# It takes the place of gcr.io/distroless/cc-debian12 where no registry answers (docs/decisions/0016-own-base-image.md).
set -euo pipefail
tools=''
if [[ ${1-} == --tools ]]; then tools=yes; shift; fi
[[ $# -ge 2 ]] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
engine=${PACELINE_ENGINE:-docker}
tag=$1; shift

root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
# Paths as the loader will look for them; a link is followed, since its target may lie elsewhere here.
libraries=$(ldd "$@" | grep -oE '/[^ ]+' | grep -v ':$' | sort -u)
[[ -n $libraries ]] || { echo "error: ldd names no library of $*" >&2; exit 1; }
for library in $libraries; do install -D -m 755 "$(readlink -f "$library")" "$root$library"; done
if [[ -n $tools ]]; then
  for program in "$@"; do install -D -m 755 "$(readlink -f "$program")" "$root/usr/bin/$(basename "$program")"; done
  # `openssl req` does not work without.
  if [[ -e /etc/ssl/openssl.cnf ]]; then
    install -D -m 644 /etc/ssl/openssl.cnf "$root/etc/ssl/openssl.cnf"
    settings=$(openssl version -d | sed 's/^OPENSSLDIR: "\(.*\)"$/\1/')
    [[ -e $root$settings/openssl.cnf ]] || { mkdir -p "$root$settings" && ln -s /etc/ssl/openssl.cnf "$root$settings/openssl.cnf"; }
  fi
fi
certificates=/etc/ssl/certs/ca-certificates.crt
if [[ -e $certificates ]]; then
  install -D -m 644 "$certificates" "$root$certificates"
else
  echo "warning: no $certificates here: programs in $tag trust no public authority" >&2
fi
mkdir -p "$root/etc" "$root/proc" "$root/sys" "$root/dev" "$root/home/nonroot"
install -d -m 1777 "$root/tmp"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/etc/group"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
cp /etc/os-release "$root/etc/os-release"

# The same libraries give the same image: names sorted, no times, no owners of this machine.
tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c . \
  | "$engine" import --change 'USER 65532:65532' --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' - "$tag" >/dev/null
echo "$tag: $(wc -w <<< "$libraries") libraries of this machine, $(du -sm "$root" | cut -f1) MB"
