#!/bin/sh
# What the lab's disc starts when a machine boots it: as much of anaconda's loader as it takes to ask
# for the kickstart that ks= names, to show it, and to run its report. It installs nothing.
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
busybox=/bin/busybox-lab
$busybox mkdir -p /proc /sys /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs dev /dev
for module in virtio_pci virtio_net e1000 8139cp; do modprobe $module 2>/dev/null; done
for word in `$busybox cat /proc/cmdline`; do
    case $word in
        ks=*) kickstart=${word#ks=} ;;
        BOOTIF=*) card=`echo ${word#BOOTIF=01-} | $busybox tr - :` ;;
        rescue) rescue=yes ;;
    esac
done
echo "lab-init: card $card, kickstart $kickstart, rescue ${rescue:-no}"
for path in /sys/class/net/*; do
    [ "`$busybox cat $path/address`" = "$card" ] && device=${path##*/}
done
cat > /udhcpc.sh <<'SCRIPT'
[ "$1" = bound ] && /bin/busybox-lab ifconfig $interface $ip netmask $subnet
[ -n "$router" ] && [ "$1" = bound ] && /bin/busybox-lab route add default gw $router
exit 0
SCRIPT
$busybox chmod 755 /udhcpc.sh
$busybox ifconfig $device up
$busybox udhcpc -q -n -t 20 -T 1 -i $device -s /udhcpc.sh
$busybox wget -q --header "X-RHN-Provisioning-MAC-0: $device $card" -O /ks.cfg "$kickstart" &&
    echo "lab-init: kickstart of `$busybox wc -l < /ks.cfg` lines"
[ -e /bin/wget ] || $busybox ln -s $busybox /bin/wget
$busybox sed -n '/^# groundlift-report/,/^# groundlift-end/p' /ks.cfg > /report.sh
. /report.sh
echo "lab-init: end"
$busybox poweroff -f
