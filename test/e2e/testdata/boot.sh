# boot DIR GROUP: systemd as the first process of namespaces of its own. What it writes goes to DIR, and to file systems
# in memory that end with it.
set -eu
dir=$1 group=$2
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$group"
echo $$ >"/sys/fs/cgroup/$group/cgroup.procs"
umount /sys/fs/cgroup

exec unshare --mount --pid --fork --kill-child --mount-proc --cgroup --uts --ipc --net sh -euc '
	dir=$1
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t tmpfs tmpfs /run
	mkdir -p /run/etc /run/systemd/system
	cp -a /etc/. /run/etc
	rm -rf /run/etc/systemd /run/etc/breakerd
	cp -a "$dir/etc" /run/etc/breakerd
	chown -R 0:0 /run/etc/breakerd
	mount --bind /run/etc /etc
	mount --bind "$dir/log" /var/log
	mount --bind "$dir/bin" /usr/local/bin
	cp -a "$dir/units/." /run/systemd/system
	# Of the units of the machine only these exist, and they do nothing.
	mount -t tmpfs tmpfs /lib/systemd/system
	for target in sysinit basic sockets multi-user network-online shutdown umount; do
		printf "[Unit]\nDefaultDependencies=no\n" >"/lib/systemd/system/$target.target"
	done
	ip link set lo up
	mount --make-rshared / # as systemd does where it is the machine: credentials are mounted by a process of their own
	redis-server --port 6379 --bind 127.0.0.1 --requirepass secret --save "" --daemonize yes --logfile "" --dir /run >/dev/null
	exec env -i PATH="$PATH" TERM=dumb container=other /lib/systemd/systemd --system --unit=breakerd.socket \
		--log-target=console --log-level=info --show-status=no
' boot "$dir"
