// Command systole is the director daemon and its command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"systole/control/api"
	"systole/control/client"
)

// version is set by the Makefile: git describe.
var version = "dev"

// callTimeout bounds one conversation with the control socket.
const callTimeout = 10 * time.Second

// cli is the whole command line. Noun commands change nothing.
type cli struct {
	Run     runCmd     `cmd:"" help:"Be the director: run the daemon in the foreground."`
	Check   checkCmd   `cmd:"" help:"Check a config file; needs neither root nor a running director."`
	Status  statusCmd  `cmd:"" help:"Show the director's state. Exit code: 0 ok, 1 degraded, 2 critical, 3 not running."`
	Stats   statsCmd   `cmd:"" help:"Print the data plane's counters: by service, real server and reason, with --cpu by CPU."`
	Ipvs    ipvsCmd    `cmd:"" help:"Print the virtual server table in ipvsadm's form, whichever plane forwards."`
	Flows   flowsCmd   `cmd:"" help:"List the flow table, or count it: which client has which real server."`
	Trace   traceCmd   `cmd:"" help:"Follow a client's packets through each decision of the data plane."`
	Capture captureCmd `cmd:"" help:"Write the packets that XDP forwards, which tcpdump cannot see, as pcapng."`
	Standby standbyCmd `cmd:"" help:"Hand resource groups to the peer; no connection is lost."`

	Takeover takeoverCmd `cmd:"" help:"Take resource groups from the peer; no connection is lost."`
	Quiesce  quiesceCmd  `cmd:"" help:"Take a real server out of rotation on this director, until resume or restart; its connections stay."`
	Resume   resumeCmd   `cmd:"" help:"Put a quiesced real server back into rotation."`
	Node     nodeCmd     `cmd:"" help:"Add nodes to the cluster, or remove some, while it runs."`
	Plane    planeCmd    `cmd:"" help:"Say which data plane is to carry the services; no connection is lost. Until restart."`
	Reload   reloadCmd   `cmd:"" help:"Read the config again; a bad one changes nothing."`

	Send   sendCmd   `cmd:"" help:"Send a message to the programs that listen on all directors, or one for each line of standard input."`
	Listen listenCmd `cmd:"" help:"Print messages and what happens to nodes and links, as they come."`

	RealServer realServerCmd `cmd:"" name:"real-server" help:"Set up or check a real server for gate (DR) forwarding."`
	Demo       demoCmd       `cmd:"" help:"Watch a pair of directors at work, in network namespaces of its own."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// exitCode is an error that only says how to exit: all is printed already.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit %d", int(e)) }

func main() {
	var c cli
	parser := kong.Must(&c,
		kong.Name("systole"),
		kong.Description("A load-balancing director: XDP forwarding, heartbeat, takeover, health checks."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	k, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	k.BindTo(ctx, (*context.Context)(nil))
	os.Exit(exit(k.Run()))
}

// exit prints an error as an operator wants it, and gives the exit code.
func exit(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		return 130
	}
	fmt.Fprintln(os.Stderr, "systole:", err)
	if errors.Is(err, api.ErrNotRunning) {
		return 3
	}
	return 1
}

// socketFlag is what every command that talks to the daemon has.
type socketFlag struct {
	Socket string `help:"Control socket of the director." default:"/run/systole/systole.sock" env:"SYSTOLE_SOCKET" placeholder:"PATH"`
}

func (s socketFlag) client() *api.Client { return api.NewClient(s.Socket) }

// programs is the client of what programs may do.
func (s socketFlag) programs() *client.Client { return client.New(s.Socket) }

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("systole", version)
	return nil
}
