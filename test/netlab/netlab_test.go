package netlab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"systole/test/netlab"
)

// needRoot skips what only root can do; where SYSTOLE_CI=1 it must be possible.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SYSTOLE_CI") == "1" {
		t.Fatal("network namespaces need root")
	}
	t.Skip("network namespaces need root")
}

// unique is a prefix no other run has, so that tests may run side by side.
func unique(t *testing.T, name string) string {
	t.Helper()
	return fmt.Sprintf("nlt-%s-%d", name, os.Getpid())
}

func newLab(t *testing.T, prefix string) *netlab.Lab {
	t.Helper()
	needRoot(t)
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
		if left := leftovers(t, prefix); len(left) != 0 {
			t.Errorf("Close left %v", left)
		}
	})
	return lab
}

func addHost(t *testing.T, lab *netlab.Lab, name, addr string) *netlab.Host {
	t.Helper()
	h, err := lab.AddHost(name, netip.MustParsePrefix(addr))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// leftovers are all traces a lab could leave outside its processes.
func leftovers(t *testing.T, prefix string) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"/run/netns/" + prefix + "-*", netlab.RunDir + "/" + prefix + "*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+prefix+"/") || strings.Contains(line, "/"+prefix+"-") {
			out = append(out, line)
		}
	}
	return out
}

// ask sends a line to a TCP server and returns the answer.
func ask(h *netlab.Host, addr string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp4", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(timeout))
	b, err := io.ReadAll(c)
	return string(b), err
}

func serve(t *testing.T, h *netlab.Host, addr, text string) {
	t.Helper()
	ln, err := h.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			c.Close()
		}
	}()
}

func TestHostsTalkAndCablesCanBeCut(t *testing.T) {
	lab := newLab(t, unique(t, "talk"))
	a := addHost(t, lab, "a", "10.9.0.1/24")
	b := addHost(t, lab, "b", "10.9.0.2/24")
	serve(t, b, "10.9.0.2:7", "hello")

	if got, err := ask(a, "10.9.0.2:7", 2*time.Second); err != nil || got != "hello" {
		t.Fatalf("before the cut: %q, %v", got, err)
	}
	if err := b.Cut(); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(a, "10.9.0.2:7", 50*time.Millisecond); err == nil {
		t.Fatalf("answer %q through a cut cable", got)
	}
	nic, err := b.Netlink().LinkByName(netlab.NIC)
	if err != nil {
		t.Fatal(err)
	}
	if nic.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
		t.Error("a cut cable still has a carrier")
	}
	if nic.Attrs().HardwareAddr.String() != b.MAC.String() {
		t.Errorf("eth0 has %s, Host.MAC says %s", nic.Attrs().HardwareAddr, b.MAC)
	}
	if err := b.Plug(); err != nil {
		t.Fatal(err)
	}
	// A SYN sent while the port comes up is repeated after a second by TCP.
	if got, err := ask(a, "10.9.0.2:7", 3*time.Second); err != nil || got != "hello" {
		t.Fatalf("after the cable was put back: %q, %v", got, err)
	}
}

func TestTwoLabsDoNotMeet(t *testing.T) {
	for i, name := range []string{"one", "two"} {
		lab := newLab(t, unique(t, name))
		h := addHost(t, lab, "a", "10.9.0.1/24")
		serve(t, h, "10.9.0.1:7", name)
		c := addHost(t, lab, "c", "10.9.0.9/24")
		t.Cleanup(func() {
			if got, err := ask(c, "10.9.0.1:7", time.Second); err != nil || got != name {
				t.Errorf("lab %d: %q, %v", i, got, err)
			}
		})
	}
}

func TestSamePrefixTwiceIsBusy(t *testing.T) {
	prefix := unique(t, "busy")
	newLab(t, prefix)
	if _, err := netlab.New(prefix); !errors.Is(err, netlab.ErrBusy) {
		t.Fatalf("second lab: %v, want ErrBusy", err)
	}
}

func TestBadNames(t *testing.T) {
	for _, p := range []string{"", "-a", "A", "a/b", "../a", "a b", strings.Repeat("a", 21)} {
		if _, err := netlab.New(p); !errors.Is(err, netlab.ErrName) {
			t.Errorf("New(%q): %v, want ErrName", p, err)
		}
	}
	lab := newLab(t, unique(t, "names"))
	addr := netip.MustParsePrefix("10.9.0.1/24")
	for _, n := range []string{"", "switch", "a-b", "thirteenchars", "A"} {
		if _, err := lab.AddHost(n, addr); !errors.Is(err, netlab.ErrName) {
			t.Errorf("AddHost(%q): %v, want ErrName", n, err)
		}
	}
	if _, err := lab.AddHost("six", netip.MustParsePrefix("2001:db8::1/64")); !errors.Is(err, netlab.ErrName) {
		t.Errorf("IPv6 address: %v, want ErrName", err)
	}
	h := addHost(t, lab, "a", "10.9.0.1/24")
	if _, err := lab.AddHost("a", addr); !errors.Is(err, netlab.ErrName) {
		t.Errorf("the same host twice: %v, want ErrName", err)
	}
	for _, key := range []string{"kernel.hostname", "net/../kernel.hostname", "net..kernel"} {
		if err := h.SetSysctl(key, "x"); !errors.Is(err, netlab.ErrName) {
			t.Errorf("SetSysctl(%q): %v, want ErrName", key, err)
		}
	}
}

func TestForeignNamespaceIsLeftAlone(t *testing.T) {
	needRoot(t)
	prefix := unique(t, "foreign")
	path := "/run/netns/" + prefix + "-a"
	lab := newLab(t, prefix) // makes /run/netns as well
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	if _, err := lab.AddHost("a", netip.MustParsePrefix("10.9.0.1/24")); !errors.Is(err, netlab.ErrExists) {
		t.Fatalf("AddHost over a foreign namespace: %v, want ErrExists", err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("Close removed a namespace that is not the lab's: %v", err)
	}
}

func TestSysctlsBelongToTheHost(t *testing.T) {
	const key = "net.ipv4.conf.all.arp_ignore"
	outside, err := os.ReadFile("/proc/sys/net/ipv4/conf/all/arp_ignore")
	if err != nil {
		t.Fatal(err)
	}
	lab := newLab(t, unique(t, "sysctl"))
	a, b := addHost(t, lab, "a", "10.9.0.1/24"), addHost(t, lab, "b", "10.9.0.2/24")
	if err := a.SetSysctl(key, "7"); err != nil {
		t.Fatal(err)
	}
	for h, want := range map[*netlab.Host]string{a: "7", b: "0"} {
		if got, err := h.Sysctl(key); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", h.Name, got, err, want)
		}
	}
	if now, _ := os.ReadFile("/proc/sys/net/ipv4/conf/all/arp_ignore"); string(now) != string(outside) {
		t.Errorf("the machine's own value went from %q to %q", outside, now)
	}
}

func TestProcessesLiveAndDieWithTheLab(t *testing.T) {
	prefix := unique(t, "proc")
	lab := newLab(t, prefix)
	h := addHost(t, lab, "a", "10.9.0.1/24")

	var out strings.Builder
	cmd := h.Command(t.Context(), "cat", "/proc/net/fib_trie")
	cmd.Stdout = &out
	p, err := h.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil || !strings.Contains(out.String(), "10.9.0.1") {
		t.Errorf("a process does not see the host's network: %v\n%s", err, out.String())
	}

	// The shell's child is in the group, and dies with it.
	long, err := h.Start(h.Command(context.Background(), "sh", "-c", "sleep 1000 & wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-long.Done():
	default:
		t.Error("Close returned before the process had ended")
	}
	if err := unix.Kill(-long.Pid(), 0); !errors.Is(err, unix.ESRCH) && !allZombies(t, long.Pid()) {
		t.Errorf("the process group is still there: %v", err)
	}
	if _, err := h.Start(h.Command(context.Background(), "true")); !errors.Is(err, netlab.ErrClosed) {
		t.Errorf("Start after Close: %v, want ErrClosed", err)
	}
}

// allZombies tells whether a group has no living member: who was killed may
// wait for init to reap it.
func allZombies(t *testing.T, group int) bool {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if f[2] == strconv.Itoa(group) && f[0] != "Z" && f[0] != "X" {
			return false
		}
	}
	return true
}

func TestDoReturnsWhatHappened(t *testing.T) {
	lab := newLab(t, unique(t, "do"))
	h := addHost(t, lab, "a", "10.9.0.1/24")
	want := errors.New("mine")
	if err := h.Do(func() error { return want }); err != want {
		t.Errorf("error: %v", err)
	}
	if err := h.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("a function that ended its goroutine gave no error")
	}
	// No thread may stay behind in the namespace: the machine's own names are
	// what everybody else sees, however many threads were used.
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			_ = h.Do(func() error { time.Sleep(time.Millisecond); return nil })
			if ifs, err := net.Interfaces(); err == nil {
				for _, i := range ifs {
					if i.HardwareAddr.String() == h.MAC.String() {
						t.Error("a thread stayed in the host's namespace")
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestNativeXDPAndChecksums(t *testing.T) {
	lab := newLab(t, unique(t, "xdp"))
	a, b := addHost(t, lab, "a", "10.9.0.1/24"), addHost(t, lab, "b", "10.9.0.2/24")
	if err := a.NativeXDP(); err != nil {
		t.Fatal(err)
	}
	if err := b.DisableTxChecksum(); err != nil {
		t.Fatal(err)
	}
	serve(t, a, "10.9.0.1:7", "hello")
	if got, err := ask(b, "10.9.0.1:7", 2*time.Second); err != nil || got != "hello" {
		t.Fatalf("through the XDP program: %q, %v", got, err)
	}
}

// TestKilledProgramIsCleanedUpAfter makes a lab in another process, kills that
// as nothing can be tidied up after, and looks.
func TestKilledProgramIsCleanedUpAfter(t *testing.T) {
	needRoot(t)
	prefix := unique(t, "killed")
	if os.Getenv("NETLAB_VICTIM") != "" {
		victim(t, os.Getenv("NETLAB_VICTIM"))
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProgramIsCleanedUpAfter$", "-test.v")
	cmd.Env = append(os.Environ(), "NETLAB_VICTIM="+prefix)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var child int
	buf := make([]byte, 4096)
	var seen strings.Builder
	for !strings.Contains(seen.String(), "ready\n") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the victim said %q: %v", seen.String(), err)
		}
		seen.Write(buf[:n])
	}
	if _, err := fmt.Sscanf(seen.String()[strings.Index(seen.String(), "child "):], "child %d", &child); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	if left := leftovers(t, prefix); len(left) < 4 {
		t.Fatalf("the victim was to leave namespaces, a mount and its record, found %v", left)
	}
	deadline := time.Now().Add(5 * time.Second)
	for unix.Kill(child, 0) == nil && !allZombies(t, child) {
		if time.Now().After(deadline) {
			t.Fatal("a process in the lab outlived the program")
		}
		time.Sleep(5 * time.Millisecond)
	}
	lab := newLab(t, prefix) // its Cleanup checks that all is gone
	addHost(t, lab, "a", "10.9.0.1/24")
}

func victim(t *testing.T, prefix string) {
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	h := addHost(t, lab, "a", "10.9.0.1/24")
	dir, err := lab.MountBPF("bpf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "pins"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(h.Command(context.Background(), "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("child %d\nready\n", p.Pid())
	select {}
}
