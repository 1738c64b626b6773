package demo

import (
	"bytes"
	"fmt"
	"os"
	"text/template"
	"time"
)

// The timing of the pair: three beats to a deadtime is short for a real
// network and fit for a demo.
const (
	keepalive = 100 * time.Millisecond
	deadtime  = 300 * time.Millisecond
	initdead  = time.Second
	// checks are frequent, so that the steps about real servers are short.
	checkInterval = 200 * time.Millisecond
)

// settings are what the steps change in the config.
type settings struct {
	AutoFailback bool
	Quiescent    bool
}

// configTemplate is a director's config: the form is that of the reference
// config. On two machines the file would be the same on both; here they share
// a file system, so the paths differ.
var configTemplate = template.Must(template.New("systole.yaml").Parse(`node: {{.Node}}
cluster:
  name: demo
  keepalive: {{.Keepalive}}
  deadtime: {{.Deadtime}}
  warntime: {{.Warntime}}
  initdead: {{.Initdead}}
  auto_failback: {{.AutoFailback}}
  authkeys: {{.Authkeys}}
  state_dir: {{.StateDir}}
  nodes: [node1, node2]
  media:
    - type: ucast
      interface: eth0
      peers: {node1: {{.Node1}}, node2: {{.Node2}}}
groups:
  - name: web
    preferred: node1
    vips:
      - {address: {{.VIP}}/32, interface: eth0}
services:
  - virtual: {{.VIP}}:80
    protocol: tcp
    scheduler: rr
    quiescent: {{.Quiescent}}
    check:
      type: http
      path: {{.CheckPath}}
      virtual_host: {{.Name}}
      expect: ok
      interval: {{.Interval}}
      timeout: {{.Interval}}
    servers: [{address: {{.Server1}}}, {address: {{.Server2}}}]
{{- range $p := .DNS}}
  - virtual: {{$.VIP}}:53
    protocol: {{$p}}
    scheduler: rr
    check: {type: tcp, port: 53, interval: {{$.Interval}}, timeout: {{$.Interval}}}
    servers: [{address: {{$.Server1}}}, {address: {{$.Server2}}}]
{{- end}}
dataplane:
  interface: eth0
  mode: {{.Mode}}
  pin: {{.Pin}}
  flows: 65536
control: {socket: {{.Socket}}}
`))

// configValues fill the template.
type configValues struct {
	settings
	Node, Node1, Node2, VIP, Server1, Server2, Name, CheckPath string
	Authkeys, StateDir, Pin, Socket, Mode                      string
	Keepalive, Deadtime, Warntime, Initdead, Interval          time.Duration
	DNS                                                        []string
}

func (v configValues) render() ([]byte, error) {
	v.Keepalive, v.Deadtime, v.Warntime, v.Initdead = keepalive, deadtime, 2*keepalive, initdead
	v.Interval = checkInterval
	v.DNS = []string{"udp", "tcp"}
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// writeConfig puts a config in its place at once: a daemon that reads it sees
// the old one or the new one.
func writeConfig(path string, v configValues) error {
	b, err := v.render()
	if err != nil {
		return fmt.Errorf("config of %s: %w", v.Node, err)
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
