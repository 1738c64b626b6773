package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"systole/bpf"
)

// pins is the place in a bpf file system where one interface's plane keeps
// its maps and its link:
//
//	PinDir/eth0/link           the attachment, whatever the layout of the maps
//	PinDir/eth0/link:eth1      that to another interface, if there are several
//	PinDir/eth0/v2/flows ...   the maps, by layout version
//
// Of several interfaces it is the place of the first, or of one that a
// predecessor was attached to.
//
// It is locked, so that no second daemon takes the plane over from a living
// one. The kernel lets go of the lock when its holder dies.
type pins struct {
	root string   // PinDir
	base string   // PinDir/eth0
	maps string   // PinDir/eth0/v2
	lock *os.File // base, opened
}

// pinName is an interface in a path: the file system refuses dots in names; an
// interface (eth0.100) may have them, but never a colon.
func pinName(ifname string) string { return strings.ReplaceAll(ifname, ".", ":") }

// homeOf chooses which of the interfaces the place is called after: the first
// that a predecessor's is called after, or has a link in.
func homeOf(root string, ifnames []string) string {
	for _, name := range ifnames {
		if _, err := os.Stat(filepath.Join(root, pinName(name))); err == nil {
			return pinName(name)
		}
		if at, _ := filepath.Glob(filepath.Join(root, "*", linkPrefix+pinName(name))); len(at) > 0 {
			return filepath.Base(filepath.Dir(at[0]))
		}
	}
	return pinName(ifnames[0])
}

// openPins creates and locks the directories.
func openPins(root string, ifnames []string) (*pins, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, unavailable("directory for pinned maps: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, unavailable("directory for pinned maps: %w", os.NewSyscallError("statfs "+root, err))
	}
	if int64(st.Type) != unix.BPF_FS_MAGIC {
		return nil, unavailable("%s is not in a bpf file system: mount -t bpf bpf %s", root, root)
	}
	base := filepath.Join(root, homeOf(root, ifnames))
	p := &pins{root: root, base: base, maps: filepath.Join(base, fmt.Sprintf("v%d", layoutVersion))}
	if err := os.MkdirAll(p.maps, 0o700); err != nil {
		return nil, unavailable("directory for pinned maps: %w", err)
	}
	var err error
	if p.lock, err = os.Open(base); err != nil {
		return nil, unavailable("directory for pinned maps: %w", err)
	}
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		p.lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, unavailable("another process holds the data plane of %s (lock on %s): stop it first", strings.Join(ifnames, ", "), base)
		}
		return nil, unavailable("lock %s: %w", base, err)
	}
	return p, nil
}

const linkPrefix = "link:"

// link is where the attachment to an interface is pinned.
func (p *pins) link(ifname string) string {
	if name := pinName(ifname); name != filepath.Base(p.base) {
		return filepath.Join(p.base, linkPrefix+name)
	}
	return filepath.Join(p.base, "link")
}

// linked are the files of all attachments there are.
func (p *pins) linked() ([]string, error) {
	return filepath.Glob(filepath.Join(p.base, "link*"))
}

// unlink detaches what is pinned at path.
func unlink(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return fmt.Errorf("link of a predecessor at %s: %w", path, err)
	}
	return errors.Join(l.Unpin(), l.Close())
}

func (p *pins) path(map_ string) string { return filepath.Join(p.maps, map_) }

// adopt opens the maps a predecessor left, if they are what spec wants: all of
// them, or all but a flow table (another size was configured) and that of QUIC
// (it knew of none), or none. The caller closes them.
func (p *pins) adopt(spec *ebpf.CollectionSpec, log *slog.Logger) map[string]*ebpf.Map {
	found := map[string]*ebpf.Map{}
	get := func(name string) error {
		m, err := ebpf.LoadPinnedMap(p.path(name), nil)
		if err != nil {
			return err
		}
		if err := spec.Maps[name].Compatible(m); err != nil {
			return errors.Join(err, m.Close())
		}
		found[name] = m
		return nil
	}
	for _, name := range pinnedNames() {
		switch name {
		case bpf.DirectorMapFlows, bpf.DirectorMapFlows6, bpf.DirectorMapQuicIds:
			continue
		}
		if err := get(name); err != nil {
			if len(found) > 0 || !errors.Is(err, fs.ErrNotExist) {
				log.Warn("pinned maps of a predecessor are not usable: beginning with empty ones", "map", name, "error", err)
			}
			closeMaps(found)
			return nil
		}
	}
	for _, name := range []string{bpf.DirectorMapFlows, bpf.DirectorMapFlows6} {
		if err := get(name); err != nil {
			log.Warn("the flow table has another size now: beginning with an empty one", "map", name, "error", err)
		}
	}
	if err := get(bpf.DirectorMapQuicIds); err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the server IDs of QUIC are unknown until the next generation", "map", bpf.DirectorMapQuicIds, "error", err)
	}
	return found
}

func closeMaps(ms map[string]*ebpf.Map) {
	for _, m := range ms {
		m.Close()
	}
}

// keep pins all maps of k that were not adopted, in place of whatever stood
// there.
func (p *pins) keep(k *kernelSide, adopted map[string]*ebpf.Map) error {
	for name, m := range k.pinned() {
		if adopted[name] != nil {
			continue
		}
		if err := os.Remove(p.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := m.Pin(p.path(name)); err != nil {
			return fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return nil
}

// dropOldLayouts removes the maps of other layout versions. The programs that
// used them are gone.
func (p *pins) dropOldLayouts() error {
	dirs, err := filepath.Glob(filepath.Join(p.base, "v*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		if dir != p.maps {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// remove unpins everything and removes the directories, but for a PinDir that
// others use too or that is a mount point.
func (p *pins) remove() error {
	return errors.Join(os.RemoveAll(p.base), p.release())
}

// release lets go of the lock and leaves what is pinned; directories without
// a pin go.
func (p *pins) release() error {
	for _, dir := range []string{p.maps, p.base, p.root} {
		_ = os.Remove(dir) // refused while something is in it
	}
	return p.lock.Close()
}
