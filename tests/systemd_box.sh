#!/bin/bash
# Boots a real systemd as PID 1 of namespaces of its own: systemd_box.sh DIR BASE SITE PYTHON
#
#   DIR     units/ (the only units that the manager sees), packages/ (laid over SITE), etc/ (to be installed), setup
#   BASE    where the interpreter lives (sys.base_prefix); SITE its site-packages; PYTHON its name, as python3.11
#
# Inside, /opt/carbon-nas is a venv as systemd/README.md makes it, wherever this one lies: the unit hides home
# directories. The machine's own units must never run here: they would empty its /tmp, which is why there is nothing
# but DIR/units, no generator, and a root that cannot be written.
set -eu
DIR=$1 BASE=$2 SITE=$3 PYTHON=$4
if [ "${BOX_STAGE:-}" != 2 ]; then
  CG=/sys/fs/cgroup/unified; [ -d $CG ] || CG=/sys/fs/cgroup
  for old in $CG/carbon-nas-box.*; do                    # left by a run that was killed; not one that is under way
    [ -d "/proc/${old##*.}" ] || find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  mkdir $CG/carbon-nas-box.$$; echo $$ > $CG/carbon-nas-box.$$/cgroup.procs      # the new cgroup root
  export BOX_STAGE=2
  # Whoever started this may be killed: then all in here must go, too.
  exec setpriv --pdeathsig KILL \
    unshare --mount --pid --fork --kill-child=KILL --cgroup --uts --ipc --mount-proc --propagation private "$0" "$@"
fi
mount -t tmpfs -o mode=755 tmpfs /mnt; mkdir /mnt/box /mnt/opt; mount --bind "$DIR" /mnt/box
mount -t tmpfs -o mode=755 tmpfs /mnt/opt
HOME_OF_PYTHON=$BASE/bin
if [ "$BASE" != /usr ]; then
  mkdir /mnt/opt/python; mount --bind "$BASE" /mnt/opt/python; HOME_OF_PYTHON=/opt/python/bin
fi
VENV=/mnt/opt/carbon-nas; mkdir -p $VENV/bin "$VENV/lib/$PYTHON/site-packages"
printf 'home = %s\ninclude-system-site-packages = false\n' "$HOME_OF_PYTHON" > $VENV/pyvenv.cfg
ln -s "$HOME_OF_PYTHON/$PYTHON" $VENV/bin/python
printf '#!/opt/carbon-nas/bin/python\nimport sys\nfrom carbon_nas.cli import main\nsys.exit(main())\n' > $VENV/bin/carbon-nas
chmod 755 $VENV/bin/carbon-nas
mount -t overlay -o "lowerdir=$DIR/packages:$SITE" overlay "$VENV/lib/$PYTHON/site-packages"

mount -o remount,ro,bind /                                                      # the machine's root
for d in /tmp /var/tmp /var/log /var/cache /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $d; done
mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/box /run/lock /run/systemd/system
mount --move /mnt/box /run/box; mount --move /mnt/opt /opt; umount /mnt
for d in etc var/lib; do mkdir -p /run/over/$d/upper /run/over/$d/work
  mount -t overlay overlay -o lowerdir=/$d,upperdir=/run/over/$d/upper,workdir=/run/over/$d/work /$d; done
[ ! -d /opt/python ] || ldconfig /opt/python/lib
umount -R /sys/fs/cgroup; mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount --make-rshared /                                                          # LoadCredential= needs propagation
sh -eu /run/box/setup
export container=unshare SYSTEMD_UNIT_PATH=/run/box/units
export SYSTEMD_GENERATOR_PATH= SYSTEMD_ENVIRONMENT_GENERATOR_PATH=
unset BOX_STAGE; cd /
exec /lib/systemd/systemd --system --unit=box.target --log-target=journal-or-kmsg --show-status=no --crash-shell=no
