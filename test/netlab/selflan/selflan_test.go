package selflan

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"systole/test/need"
)

func TestMain(m *testing.M) { Main(m) }

// namespace is the network namespace of this thread.
func namespace(t *testing.T) string {
	t.Helper()
	ns, err := current()
	Must(t, err)
	return ns
}

func TestWholeProcess(t *testing.T) {
	Need(t)
	outside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", os.Getppid()))
	Must(t, err)
	all, err := os.ReadDir("/proc/self/task")
	Must(t, err)
	for _, thread := range all {
		if ns, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net"); err == nil && ns == outside {
			t.Errorf("thread %s is in the namespace of the parent process, %s", thread.Name(), ns)
		}
	}
}

// One after the other, as tests are: what the first leaves would be in the way
// of the second.
func TestLAN(t *testing.T) {
	Need(t)
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) { lan(t) })
	}
	if _, err := netlink.LinkByName("eth0"); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("eth0 after the tests: %v", err)
	}
}

func lan(t *testing.T) {
	l := New(t)
	home := namespace(t)
	eth0, err := netlink.LinkByName("eth0")
	Must(t, err)
	addrs, err := netlink.AddrList(eth0, netlink.FAMILY_V4)
	Must(t, err)
	if len(addrs) != 1 || addrs[0].IPNet.String() != "192.168.145.2/24" {
		t.Fatalf("the director has %v", addrs)
	}

	// A socket stays in the host where it was opened.
	server := l.Host(t, "port1", "192.168.145.11/24")
	var in net.PacketConn
	server.Do(t, func() (err error) {
		if ns := namespace(t); ns == home {
			t.Errorf("the host is in the director's namespace, %s", ns)
		}
		in, err = net.ListenPacket("udp4", "192.168.145.11:80")
		return err
	})
	defer in.Close()
	out, err := net.Dial("udp4", "192.168.145.11:80")
	Must(t, err)
	defer out.Close()
	_, err = out.Write([]byte("hello")) // waits in the kernel for ARP
	Must(t, err)
	Must(t, in.SetReadDeadline(time.Now().Add(10*time.Second)))
	buf := make([]byte, 10)
	n, from, err := in.ReadFrom(buf)
	Must(t, err)
	if string(buf[:n]) != "hello" || !strings.HasPrefix(from.String(), "192.168.145.2:") {
		t.Errorf("heard %q from %s", buf[:n], from)
	}
	neighbours, err := netlink.NeighList(eth0.Attrs().Index, netlink.FAMILY_V4)
	Must(t, err)
	if len(neighbours) != 1 || neighbours[0].HardwareAddr.String() != server.MAC(t).String() {
		t.Errorf("neighbours %v, want one with %s", neighbours, server.MAC(t))
	}

	// A host without an address, and another's sysctl.
	mute := l.Host(t, "port2", "")
	if got, err := mute.AddrList(mute.Eth0(t), netlink.FAMILY_V4); err != nil || len(got) != 0 {
		t.Errorf("the host without an address has %v, %v", got, err)
	}
	mute.Sysctl(t, "net/ipv4/ip_default_ttl", "77")
	const file = "/proc/sys/net/ipv4/ip_default_ttl"
	mute.Do(t, func() error {
		if got, err := os.ReadFile(file); err != nil || string(got) != "77\n" {
			t.Errorf("the host's sysctl is %q, %v", got, err)
		}
		return nil
	})
	if got, err := os.ReadFile(file); err != nil || string(got) == "77\n" {
		t.Errorf("the director's sysctl is %q, %v", got, err)
	}
	if ns := namespace(t); ns != home {
		t.Errorf("afterwards the test is in %s, before in %s", ns, home)
	}
}

// refusal keeps what ends a test instead of ending it.
type refusal struct {
	testing.TB
	says string
}

func (r *refusal) Fatal(a ...any) { r.says = fmt.Sprint(a...) }

// Without Main, or with a variable that somebody set, a LAN would be made in the
// network of the machine.
func TestNeedsMain(t *testing.T) {
	Need(t)
	for _, outside := range []string{"", "1", namespace(t)} {
		t.Setenv(inside, outside)
		r := &refusal{TB: t}
		if Need(r); !strings.Contains(r.says, "TestMain must call selflan.Main") {
			t.Errorf("%q: says %q", outside, r.says)
		}
	}
}

func TestOnThreadReportsAndComesHome(t *testing.T) {
	Need(t)
	home, wrong := namespace(t), errors.New("wrong")
	other := newHost(t)
	for range 100 { // the threads are used again
		if err := onThread(func() error { return wrong }); !errors.Is(err, wrong) {
			t.Fatal(err)
		}
		other.Do(t, func() error { return nil })
		done := make(chan string)
		go func() { done <- namespace(t) }()
		if ns := <-done; ns != home {
			t.Fatalf("a goroutine runs in %s, not in %s", ns, home)
		}
	}
}

// What becomes of the tests must come out of the process that Main starts.
func TestVerdict(t *testing.T) {
	const ask = "SELFLAN_TEST_VERDICT"
	switch os.Getenv(ask) {
	case "pass":
		return
	case "fail":
		t.Fatal("as asked")
	case "killed":
		Must(t, syscall.Kill(os.Getpid(), syscall.SIGKILL))
	}
	need.Root(t, "network namespaces")
	for verdict, want := range map[string]int{"pass": 0, "fail": 1, "killed": 1} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestVerdict$")
		for _, e := range os.Environ() {
			if !strings.HasPrefix(e, inside+"=") {
				cmd.Env = append(cmd.Env, e)
			}
		}
		cmd.Env = append(cmd.Env, ask+"="+verdict)
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: exit status %d, want %d (%v)\n%s", verdict, got, want, err, out)
		}
	}
}
