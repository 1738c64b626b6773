package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 looks for named namespaces.
const netnsDir = "/run/netns"

// namespace is a named network namespace and one thread that lives in it.
//
// The thread is there for two reasons. It made the namespace, so no thread of
// the program ever has to be brought back from a half-made one. And it is the
// parent of every process started in it: the parent-death signal follows the
// *thread* that forked, so that thread must live as long as the namespace.
type namespace struct {
	name  string
	path  string
	inode uint64
	fd    netns.NsHandle
	nl    *netlink.Handle

	work chan func()
	gone chan struct{}
}

// newNamespace makes the namespace and its thread. record is told of the
// namespace before it gets its name, so that no name is ever without proof of
// whose it is. On error the namespace is returned too if there is something
// to close.
func newNamespace(name string, record func(name string, inode uint64) error) (*namespace, error) {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return nil, err
	}
	ns := &namespace{
		name: name,
		path: filepath.Join(netnsDir, name),
		fd:   netns.None(),
		work: make(chan func()),
		gone: make(chan struct{}),
	}
	ready := make(chan error)
	go func() {
		defer close(ns.gone)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		err := ns.enterNew(record)
		ready <- err
		if err != nil {
			return
		}
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		<-ns.gone
		close(ns.work)
		return nil, errors.Join(err, ns.forget())
	}
	var err error
	if ns.nl, err = netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE); err != nil {
		return ns, fmt.Errorf("netlink: %w", err)
	}
	return ns, ns.prepare()
}

// enterNew moves the calling thread, which is given up to it, into a new
// namespace and gives that its name.
func (ns *namespace) enterNew(record func(string, uint64) error) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w (are you root?)", err)
	}
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	inode, err := nsInode(self)
	if err != nil {
		return err
	}
	if err := record(ns.name, inode); err != nil {
		return err
	}
	f, err := os.OpenFile(ns.path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w and is not this lab's: choose another prefix, or remove it with: ip netns del %s", ErrExists, ns.name)
	}
	if err != nil {
		return err
	}
	f.Close()
	ns.inode = inode // from here on the name is ours to remove
	if err := unix.Mount(self, ns.path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount on %s: %w", ns.path, err)
	}
	ns.fd, err = netns.GetFromPath(ns.path)
	return err
}

// prepare brings loopback up and takes away what differs between machines (a
// new namespace inherits the sysctls of the first) or delays a fresh link.
func (ns *namespace) prepare() error {
	lo, err := ns.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := ns.nl.LinkSetUp(lo); err != nil {
		return err
	}
	return ns.do(func() error {
		for _, conf := range []string{"all", "default", "lo"} {
			for _, key := range []string{"forwarding", "arp_ignore", "arp_announce", "rp_filter", "accept_local"} {
				if err := writeSysctl("net.ipv4.conf."+conf+"."+key, "0"); err != nil {
					return err
				}
			}
		}
		for _, conf := range []string{"all", "default"} {
			for _, key := range []string{"accept_dad", "accept_ra", "router_solicitations"} {
				err := writeSysctl("net.ipv6.conf."+conf+"."+key, "0")
				if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
					return err
				}
			}
		}
		return nil
	})
}

// do runs f on a thread that is in the namespace for the time of the call.
func (ns *namespace) do(f func() error) error {
	if !ns.fd.IsOpen() {
		return ErrClosed
	}
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function left its goroutine (runtime.Goexit, t.FailNow)")
		defer func() { done <- err }()

		runtime.LockOSThread()
		home, e := netns.Get()
		if e != nil {
			runtime.UnlockOSThread()
			err = e
			return
		}
		defer home.Close()
		if e := netns.Set(ns.fd); e != nil {
			runtime.UnlockOSThread()
			err = fmt.Errorf("enter namespace %s: %w", ns.name, e)
			return
		}
		defer func() {
			// A thread that cannot go home stays locked and so ends with this
			// goroutine: nobody may ever run on it unknowingly.
			if e := netns.Set(home); e != nil {
				err = errors.Join(err, fmt.Errorf("leave namespace %s: %w", ns.name, e))
				return
			}
			runtime.UnlockOSThread()
		}()
		err = f()
	}()
	return <-done
}

// onThread runs f on the namespace's own thread. Only for what is short.
func (ns *namespace) onThread(f func() error) error {
	done := make(chan error, 1)
	ns.work <- func() { done <- f() }
	return <-done
}

func (ns *namespace) close() error {
	close(ns.work)
	<-ns.gone
	if ns.nl != nil {
		ns.nl.Close()
	}
	var err error
	if ns.fd.IsOpen() {
		err = ns.fd.Close()
	}
	return errors.Join(err, ns.forget())
}

// forget takes the name away; the namespace ends with its last thread.
func (ns *namespace) forget() error {
	if ns.inode == 0 {
		return nil
	}
	return removeNamed(ns.path, ns.inode)
}

// removeNamed removes the named namespace at path if it is the one with that
// inode, or the empty place-holder of one that never got mounted.
func removeNamed(path string, inode uint64) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch mounted, err := isNamespace(path); {
	case err != nil:
		return err
	case mounted && st.Ino != inode:
		return nil // somebody else's by now
	case mounted:
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	case st.Size != 0:
		return nil // not a place-holder
	}
	return os.Remove(path)
}

func isNamespace(path string) (bool, error) {
	var fsys unix.Statfs_t
	if err := unix.Statfs(path, &fsys); err != nil {
		return false, fmt.Errorf("statfs %s: %w", path, err)
	}
	return fsys.Type == unix.NSFS_MAGIC, nil
}

func nsInode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Ino, nil
}
