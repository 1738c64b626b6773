package failover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"systole/test/netlab"
)

// keepalived is a pair of VRRP routers with the priorities 150 and 100.
type keepalived struct {
	*lab
	proc     [2]*netlab.Process
	stopping *netlab.Process
}

func newKeepalived(l *lab, t timing) *keepalived {
	l.Helper()
	k := &keepalived{lab: l}
	for i, h := range l.nodes {
		l.serve(h)
		l.must(os.WriteFile(k.file(i, "conf"), fmt.Appendf(nil, `global_defs {
  vrrp_version 3
  router_id %s
}
vrrp_instance one {
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority %d
  advert_int %.2f
  nopreempt
  virtual_ipaddress { %s/32 dev eth0 }
}
`, h.Name, 150-50*i, t.keepalive.Seconds(), vip), 0o600))
	}
	return k
}

func (k *keepalived) file(i int, what string) string {
	return filepath.Join(k.Dir(), "keepalived-"+k.nodes[i].Name+"."+what)
}

func (k *keepalived) start(i int) {
	k.Helper()
	if k.stopping != nil {
		<-k.stopping.Done()
	}
	log, err := os.OpenFile(k.file(i, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	k.must(err)
	defer log.Close()
	cmd := k.nodes[i].Command(context.Background(), "keepalived", "--dont-fork", "--log-console", "--vrrp",
		"--use-file", k.file(i, "conf"), "--pid", k.file(i, "pid"), "--vrrp_pid", k.file(i, "vrrp.pid"))
	cmd.Stdout, cmd.Stderr = log, log
	k.proc[i], err = k.nodes[i].Start(cmd)
	k.must(err)
}

// kill is kill -9 of parent and child, which is in a process group of its own.
func (k *keepalived) kill(i int) {
	k.Helper()
	b, err := os.ReadFile(k.file(i, "vrrp.pid"))
	k.must(err)
	child, err := strconv.Atoi(strings.TrimSpace(string(b)))
	k.must(err)
	k.proc[i].Kill()
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		k.Fatal(err)
	}
	<-k.proc[i].Done()
	k.proc[i] = nil
	for _, f := range []string{"pid", "vrrp.pid"} {
		k.must(os.RemoveAll(k.file(i, f)))
	}
}

// reboot takes the address away that a killed daemon has left.
func (k *keepalived) reboot(i int) { k.dropAddress(i) }

// standby is a graceful stop, the planned hand-over that VRRP has.
func (k *keepalived) standby(i int) {
	k.Helper()
	k.must(k.proc[i].Signal(syscall.SIGTERM))
	k.stopping = k.proc[i]
	k.proc[i] = nil
}

func (k *keepalived) running(i int) bool { return k.proc[i] != nil }

func (k *keepalived) owner() int {
	owner := -1
	for i := range k.nodes {
		if k.proc[i] == nil || !k.holds(i) {
			continue
		}
		if owner >= 0 {
			return -1
		}
		owner = i
	}
	return owner
}

// holds says whether node i has the virtual address.
func (l *lab) holds(i int) bool {
	l.Helper()
	return l.address(i) != nil
}

func (l *lab) dropAddress(i int) {
	l.Helper()
	if a := l.address(i); a != nil {
		dev, err := l.nodes[i].Netlink().LinkByName(netlab.NIC)
		l.must(err)
		l.must(l.nodes[i].Netlink().AddrDel(dev, a))
	}
}

func (l *lab) address(i int) *netlink.Addr {
	l.Helper()
	dev, err := l.nodes[i].Netlink().LinkByName(netlab.NIC)
	l.must(err)
	addrs, err := l.nodes[i].Netlink().AddrList(dev, netlink.FAMILY_V4)
	l.must(err)
	for a := range addrs {
		if addrs[a].IP.Equal(vip.AsSlice()) {
			return &addrs[a]
		}
	}
	return nil
}
