package netlab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// RunDir holds, for each lab, the record of what is its own and its directory.
const RunDir = "/run/systole-demo"

// claim is a lab's hold on its prefix: a locked file. The lock ends with the
// process that has it, however that ends, so whoever gets it knows that what
// the file lists belongs to nobody any more. Each line is
//
//	netns NAME INODE
//
// written before the namespace gets its name. The inode is the proof: while a
// namespace is mounted somewhere its inode cannot become another's.
type claim struct {
	path string
	dir  string
	file *os.File
}

func newClaim(prefix string) (*claim, error) {
	if err := os.MkdirAll(RunDir, 0o711); err != nil {
		return nil, err
	}
	c := &claim{
		path: filepath.Join(RunDir, prefix+".lab"),
		dir:  filepath.Join(RunDir, prefix),
	}
	if err := c.lock(); err != nil {
		return nil, err
	}
	if err := c.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("remove what an earlier lab %q left: %w", prefix, err), c.abandon())
	}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, errors.Join(err, c.abandon())
	}
	return c, nil
}

// lock opens and locks the file. The loop is for the moment between open and
// flock in which a lab that ends may take the file away.
func (c *claim) lock() error {
	for {
		f, err := os.OpenFile(c.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if errors.Is(err, fs.ErrNotExist) { // RunDir went between MkdirAll and here
			if err := os.MkdirAll(RunDir, 0o711); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return fmt.Errorf("%w: another program holds %s; choose another prefix", ErrBusy, c.path)
			}
			return fmt.Errorf("lock %s: %w", c.path, err)
		}
		held, err1 := f.Stat()
		named, err2 := os.Stat(c.path)
		if err1 == nil && err2 == nil && os.SameFile(held, named) {
			c.file = f
			return nil
		}
		f.Close()
	}
}

func (c *claim) record(name string, inode uint64) error {
	_, err := fmt.Fprintf(c.file, "netns %s %d\n", name, inode)
	return err
}

// sweep removes what the file lists and the directory with its mounts.
func (c *claim) sweep() error {
	if _, err := c.file.Seek(0, 0); err != nil {
		return err
	}
	sc := bufio.NewScanner(c.file)
	var errs []error
	for sc.Scan() {
		name, inode, err := parseRecord(sc.Text())
		if err != nil {
			// A torn last line records a namespace that never got its name.
			continue
		}
		errs = append(errs, removeNamed(filepath.Join(netnsDir, name), inode))
	}
	errs = append(errs, sc.Err(), c.removeDir())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.file.Truncate(0)
}

func parseRecord(line string) (name string, inode uint64, err error) {
	f := strings.Split(line, " ")
	if len(f) != 3 || f[0] != "netns" || f[1] == "" || f[1] != filepath.Base(f[1]) || f[1] == ".." || f[1] == "." {
		return "", 0, fmt.Errorf("not a record: %q", line)
	}
	inode, err = strconv.ParseUint(f[2], 10, 64)
	return f[1], inode, err
}

// removeDir unmounts all below the directory, then removes it. If something
// stays mounted nothing is removed: it would be removed inside the mount.
func (c *claim) removeDir() error {
	mounts, err := mountsBelow(c.dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) { // the innermost first
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	return os.RemoveAll(c.dir)
}

func mountsBelow(dir string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(data), dir), nil
}

// parseMounts picks the mount points strictly below dir out of a mountinfo
// (proc_pid_mountinfo(5), field 5), in the order in which they were mounted.
func parseMounts(mountinfo, dir string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if at := unescape.Replace(f[4]); strings.HasPrefix(at, dir+"/") {
			out = append(out, at)
		}
	}
	return out
}

// release ends the claim with nothing left.
func (c *claim) release() error {
	if err := c.removeDir(); err != nil {
		return errors.Join(err, c.abandon())
	}
	err := errors.Join(os.Remove(c.path), c.file.Close())
	// The last lab takes the common directory along; it is in use otherwise.
	_ = os.Remove(RunDir)
	return err
}

// abandon ends the claim and keeps the record, for the next one to sweep.
func (c *claim) abandon() error { return c.file.Close() }
