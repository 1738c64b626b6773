package vm

import (
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript string

// modules are those that a director or its tests need, with what they need
// themselves; any of them may be built in. The kernel asks for them by name
// as on any machine.
var modules = []string{
	"ip_vs*", "nf_conntrack", "nf_defrag_ipv*",
	"veth", "bridge", "dummy", "8021q", "bonding", "sch_netem",
	"ipip", "sit", "ip6_tunnel", "fou", "fou6", "sctp", "sctp_diag",
	"crc32c*", "libcrc32c", "nf_tables", "nft_*", "nfnetlink", "xt_mark",
}

// host is what a machine is built of.
type host struct {
	qemu, busybox, cpio string
	kernel              string // the image
	modules             string // lib/modules/<release>, with modules.dep
	tools               string // root of unpacked packages
}

// newHost finds what fetch.sh and deps.sh have put here.
func newHost(series string) (h host, err error) {
	if series == "" {
		series = "6.1"
	}
	for _, p := range []struct {
		to   *string
		name string
	}{{&h.qemu, "qemu-system-x86_64"}, {&h.busybox, "busybox"}, {&h.cpio, "cpio"}} {
		if *p.to, err = exec.LookPath(p.name); err != nil {
			return h, fmt.Errorf("%w: no %s, which `sh test/deps.sh` installs", ErrMissing, p.name)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	cache = filepath.Join(cache, "systole", "vm")
	h.tools = filepath.Join(cache, "tools")
	for _, p := range []struct {
		to      *string
		pattern string
	}{{&h.kernel, "boot/vmlinuz-*"}, {&h.modules, "lib/modules/*"}} {
		found, err := filepath.Glob(filepath.Join(cache, series, p.pattern))
		if err != nil || len(found) != 1 {
			return h, fmt.Errorf("%w: no %s in %s, which `sh test/vm/fetch.sh %s` fills", ErrMissing, p.pattern, filepath.Join(cache, series), series)
		}
		*p.to = found[0]
	}
	return h, nil
}

// image writes the initramfs of a run.
func (h host) image(ctx context.Context, path string, programs []Program) error {
	root := path + ".root"
	if err := h.base(root); err != nil {
		return err
	}
	script := ""
	for _, p := range programs {
		dir := filepath.Join("/run", p.name())
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
		for _, file := range append([]string{p.Path}, p.Beside...) {
			if err := copyFile(filepath.Join(root, dir, filepath.Base(file)), file); err != nil {
				return err
			}
		}
		if p.Testdata != "" {
			if err := os.CopyFS(filepath.Join(root, dir, "testdata"), os.DirFS(p.Testdata)); err != nil {
				return err
			}
		}
		script += fmt.Sprintf("run %s env %s ./%s %s\n", dir, quoted(p.Env), filepath.Base(p.Path), quoted(p.Args))
	}
	if err := os.WriteFile(filepath.Join(root, "programs"), []byte(script), 0o644); err != nil {
		return err
	}
	return archive(ctx, h.cpio, root, path)
}

// quoted are arguments as a shell reads them.
func quoted(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return strings.Join(out, " ")
}

// base fills root with what every run needs.
func (h host) base(root string) error {
	for _, dir := range []string{"bin", "dev", "proc", "sys", "etc", "run", "tmp", "root", "var"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.CopyFS(root, os.DirFS(h.tools)); err != nil {
		return err
	}
	if err := static(h.busybox); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(root, "bin/busybox"), h.busybox); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(initScript), 0o755); err != nil {
		return err
	}
	return h.copyModules(filepath.Join(root, "lib/modules", filepath.Base(h.modules)))
}

// copyModules copies the modules, what they depend on, and the indices by which
// modprobe finds them.
func (h host) copyModules(to string) error {
	dep, err := os.ReadFile(filepath.Join(h.modules, "modules.dep"))
	if err != nil {
		return err
	}
	files, err := closure(string(dep), modules)
	if err != nil {
		return err
	}
	files = append(files, "modules.dep", "modules.alias", "modules.softdep", "modules.symbols", "modules.builtin")
	var errs []error
	for _, f := range files {
		dst := filepath.Join(to, f)
		errs = append(errs, os.MkdirAll(filepath.Dir(dst), 0o755), copyFile(dst, filepath.Join(h.modules, f)))
	}
	return errors.Join(errs...)
}

// closure are the files in modules.dep ("a.ko: b.ko c.ko" a line, with all that
// a needs) of the modules that match a pattern, and what they need.
func closure(dep string, patterns []string) ([]string, error) {
	seen := map[string]bool{}
	var files []string
	for line := range strings.Lines(dep) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: %q", line)
		}
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
		for _, p := range patterns {
			if match, err := filepath.Match(p, name); err != nil {
				return nil, err
			} else if !match {
				continue
			}
			for _, f := range append([]string{file}, strings.Fields(needs)...) {
				if !seen[f] {
					seen[f] = true
					files = append(files, f)
				}
			}
		}
	}
	if len(files) == 0 {
		return nil, errors.New("modules.dep: none of the modules is in it")
	}
	return files, nil
}

// static refuses a program that needs shared libraries.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static: install busybox-static in its place", path)
		}
	}
	return nil
}

// archive packs root into an initramfs.
func archive(ctx context.Context, cpio, root, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	var names strings.Builder
	err = filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		names.WriteString(rel + "\x00")
		return err
	})
	if err != nil {
		return err
	}
	var complaints strings.Builder
	cmd := exec.CommandContext(ctx, cpio, "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = root, strings.NewReader(names.String()), out, &complaints
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cpio: %w: %s", err, complaints.String())
	}
	return out.Close()
}

// copyFile keeps the permissions.
func copyFile(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, st.Mode().Perm())
}
