# SPDX-License-Identifier: Apache-2.0
# What the tests of this folder share: file systems of their own, cutfs, runs of the model checker, and
# cleaning up. Sourced from the top of the tree. Everything that was mounted or started here is gone
# when the script ends, however it ends.

build=${TEST_BUILD:-build} port=${TEST_PORT:-21580}
tmp=${TEST_TMP:-$(mktemp -d /tmp/valcached-crash.XXXXXX)}
seed=${MODEL_SEED:-$RANDOM}
passed=0 failed=0 skipped=0

forget_shared_memory() { # a store's file; format.h, store_id
	local id at
	[ -f "$1" ] || return 0
	for at in 40 4136; do # of either superblock
		id=$(od -An -tx8 -j$at -N16 "$1" | tr -d ' ')
		[ -z "$id" ] || rm -f /dev/shm/valcached-"$id"-*
	done
}

crash_clean() {
	local m f
	for f in "$tmp"/*/recycled "$tmp"/*/fits "$tmp"/*/store; do
		forget_shared_memory "$f"
	done
	for m in "$tmp"/*/; do
		if mountpoint -q "$m"; then
			umount "$m" || umount -l "$m"
		fi
	done
	[ -n "${TEST_TMP:-}" ] || rm -rf "$tmp"
}
trap crash_clean EXIT
trap 'exit 130' INT TERM

# A folder on a new file system of this type in a loop-mounted file; or 1 and the reason on stdout.
file_system() { # type
	local image=$tmp/$1.img dir=$tmp/$1
	[ "$(id -u)" -eq 0 ] || { echo "mounting needs root"; return 1; }
	mkdir -p "$dir"
	truncate -s 1400m "$image"
	case $1 in
	ext4) mkfs.ext4 -q -F -E lazy_itable_init=1 "$image" || return 1 ;;
	xfs) mkfs.xfs -q "$image" || return 1 ;;
	esac >&2
	mount -o loop "$image" "$dir" 2>/dev/null || { echo "this machine does not mount loop devices"; return 1; }
	echo "$dir"
}

skip() { # case reason
	skipped=$((skipped + 1))
	echo "skip: $1: $2"
}

# One run of the model checker: name, its flags, --, the daemon's. The cases it judges are added up.
model() {
	local name=$1 checker=() line
	shift
	while [ "$1" != -- ]; do
		checker+=("$1")
		shift
	done
	shift
	echo "== $name, seed $seed"
	"$build/tests/model" --port "$port" --seed "$seed" "${checker[@]}" -- \
	    "$build/valcached" -u root "$@" >"$tmp/out" 2>"$tmp/err"
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$tmp/out" | tail -n 1)
	grep -vE '^[0-9]+ passed, ' "$tmp/out"
	[ -n "$line" ] || { line="0 passed, 1 failed"; echo "FAILED: the checker did not finish"; }
	seed=$((seed + 1))
	if grep 'sandbox: refused' "$tmp/err"; then
		failed=$((failed + 1))
		echo "FAILED: a system call that the sandbox refuses"
	fi
	read -r model_passed _ model_failed _ <<<"${line//,/}"
	if [ -z "${expect_failure:-}" ]; then
		passed=$((passed + model_passed)) failed=$((failed + model_failed))
		if [ "$model_failed" -gt 0 ]; then
			echo "-- the end of the daemon's log:"
			tail -n 40 "$tmp/err"
		fi
	fi
}

crash_end() {
	if [ $skipped -gt 0 ]; then
		echo "$passed passed, $failed failed, $skipped skipped"
	else
		echo "$passed passed, $failed failed"
	fi
	[ $failed -eq 0 ]
	exit
}

# cutfs over a new folder: its mount point is $cut; "lie" as the argument for a disk that lies.
cutfs() { # [lie]
	cut=$tmp/cut${1:-}
	mkdir -p "$cut" "$cut.disk"
	"$build/tests/cutfs" "$cut.disk" "$cut" "$@" 2>"$tmp/cutfs.err" &
	cutfs_pid=$!
	for _ in $(seq 200); do
		[ ! -e "$cut/.control" ] || return 0
		sleep 0.02
	done
	cat "$tmp/cutfs.err"
	return 1
}

cutfs_end() {
	grep -E 'cuts|dropped|torn|cached|fsyncs' "$cut/.control" | sed 's/^/cutfs: /'
	forget_shared_memory "$cut/store"
	umount "$cut" && wait "$cutfs_pid" # a moment later; the runner fails a test that leaves a process behind
	rm -rf "$cut.disk"
}
