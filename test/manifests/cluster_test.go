package manifests

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/volume/util"
)

const (
	readyTimeout = time.Minute
	pause        = 200 * time.Millisecond
)

// cluster runs pods as the manifests describe them, without Kubernetes: each in namespaces of its own, on one bridge,
// with its command, its variables, its files as the kubelet writes them, its user, and a root that it cannot write.
// Nothing of it is left when the test ends.
type cluster struct {
	t        *testing.T
	set      *set
	dir      string
	programs string // has breakerd, bridge and Redis
	node     *testkit.Process
	pods     map[string]*pod // by name, as redis-0
}

// pod is one pod of a Deployment or a StatefulSet.
type pod struct {
	name, of, address string
	root              string
	process           *testkit.Process
}

// newCluster prepares a node. pods are the names of all pods, which know each other's names from the start.
func newCluster(t *testing.T, s *set, pods ...string) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the test makes namespaces: run it as root")
	}
	c := &cluster{t: t, set: s, dir: t.TempDir(), programs: t.TempDir(), pods: map[string]*pod{}}
	if err := os.Chmod(filepath.Dir(c.programs), 0o755); err != nil {
		t.Fatal(err)
	}
	c.build()
	script, err := filepath.Abs("testdata/node")
	if err != nil {
		t.Fatal(err)
	}
	c.node = testkit.Run(t, []string{"unshare", "--net", "--mount", script}, os.Environ())
	testkit.Eventually(t, "a network namespace", readyTimeout, func() error {
		if !strings.Contains(c.node.Stdout(), "ready") {
			return errors.New(c.node.Stderr())
		}
		return nil
	})
	hosts := "127.0.0.1 localhost\n"
	var hostsSb69 strings.Builder
	for i, name := range pods {
		of := name[:strings.LastIndexByte(name, '-')]
		p := &pod{name: name, of: of, address: fmt.Sprintf("10.20.0.%d", 10+i), root: filepath.Join(c.dir, name)}
		c.pods[name] = p
		hostsSb69.WriteString(p.address + " " + name + "." + of + "\n")
	}
	hosts += hostsSb69.String()
	for _, p := range c.pods {
		c.prepare(p, hosts)
	}
	return c
}

// build builds the programs, static as in their image.
func (c *cluster) build() {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "go", "build", "-buildvcs=false", "-o", c.programs+"/", "./cmd/breakerd", "./cmd/bridge")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	server, err := exec.LookPath("redis-server")
	if err == nil { // Debian has redis-sentinel in a package of its own, and it is the same program
		err = os.Symlink(server, filepath.Join(c.programs, "redis-sentinel"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// prepare makes the root of a pod, and its place in the network.
func (c *cluster) prepare(p *pod, hosts string) {
	c.t.Helper()
	for _, d := range []string{"usr", "proc", "dev", "etc", "run", "data", "tmp", "programs"} {
		c.must(os.MkdirAll(filepath.Join(p.root, d), 0o755))
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		c.must(os.Symlink("usr/"+d, filepath.Join(p.root, d)))
	}
	spec := c.set.podsOf[p.of].Spec.SecurityContext
	c.must(os.Chmod(filepath.Join(p.root, "tmp"), 0o777|os.ModeSticky), os.WriteFile(filepath.Join(p.root, "etc/hosts"), []byte(hosts), 0o644),
		os.WriteFile(filepath.Join(p.root, "etc/nsswitch.conf"), []byte("hosts: files\n"), 0o644),
		os.Chown(filepath.Join(p.root, "data"), 0, int(*spec.FSGroup)), os.Chmod(filepath.Join(p.root, "data"), 0o770|os.ModeSetgid))
	programs, err := os.ReadDir(c.programs)
	c.must(err)
	for _, f := range programs {
		from, to := filepath.Join(c.programs, f.Name()), filepath.Join(p.root, "programs", f.Name())
		if f.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(from)
			c.must(err, os.Symlink(target, to))
			continue
		}
		c.must(os.Link(from, to))
	}
	for dir, files := range c.set.files(p.of) {
		c.mount(p, dir, files)
	}
	n := p.address[strings.LastIndexByte(p.address, '.')+1:]
	for _, command := range []string{
		"netns add " + p.name,
		"link add v" + n + " type veth peer name eth0 netns " + p.name,
		"link set v" + n + " master pods up",
		"-n " + p.name + " addr add " + p.address + "/24 dev eth0",
		"-n " + p.name + " link set eth0 up",
		"-n " + p.name + " link set lo up",
	} {
		c.onNode(append([]string{"ip"}, strings.Fields(command)...)...)
	}
}

// mount puts the files of a ConfigMap or a Secret into a directory of the pod, as the kubelet does: a change replaces
// all files of the directory at once, by a link.
func (c *cluster) mount(p *pod, dir string, files map[string]string) {
	c.t.Helper()
	target := filepath.Join(p.root, dir)
	c.must(os.MkdirAll(target, 0o755))
	mode := int32(0o644)
	for _, v := range c.set.podsOf[p.of].Spec.Volumes {
		for _, m := range c.set.container(p.of).VolumeMounts {
			if m.Name == v.Name && m.MountPath == dir && v.Secret != nil {
				mode = *v.Secret.DefaultMode
			}
		}
	}
	group := *c.set.podsOf[p.of].Spec.SecurityContext.FSGroup
	payload := map[string]util.FileProjection{}
	for name, text := range files {
		payload[name] = util.FileProjection{Data: []byte(text), Mode: mode}
	}
	writer, err := util.NewAtomicWriter(target, p.name)
	c.must(err)
	c.must(writer.Write(payload, func(subPath string) error { // as the kubelet gives the files to the pod's group
		return filepath.WalkDir(filepath.Join(target, subPath), func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 0, int(group)))
		})
	}))
}

// start starts a pod. A pod that was killed keeps its data.
func (c *cluster) start(name string) {
	c.t.Helper()
	p := c.pods[name]
	script, err := filepath.Abs("testdata/pod")
	c.must(err)
	sec := c.set.podsOf[p.of].Spec.SecurityContext
	command := []string{
		"nsenter", "--target", strconv.Itoa(c.node.PID()), "--net", "--mount", "ip", "netns", "exec", name,
		"unshare", "--mount", script, p.root, strconv.FormatInt(*sec.RunAsUser, 10), strconv.FormatInt(*sec.RunAsGroup, 10),
	}
	environ := []string{"env", "--ignore-environment", "PATH=/usr/local/bin:/usr/bin", "HOSTNAME=" + name}
	variables := c.set.environ(p.of, name)
	for _, variable := range slices.Sorted(maps.Keys(variables)) {
		environ = append(environ, variable+"="+variables[variable])
	}
	p.process = testkit.Run(c.t, slices.Concat(command, environ, c.set.container(p.of).Command), os.Environ())
}

// awaitReady waits until the startup and the readiness probe of pods succeed.
func (c *cluster) awaitReady(names ...string) {
	c.t.Helper()
	for _, name := range names {
		container := c.set.container(c.pods[name].of)
		for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe} {
			c.eventually(name+" to be ready", func() error { return c.ask(name, probe) })
		}
	}
}

// eventually waits until check returns nil. Checks start processes, so there is a pause between two of them.
func (c *cluster) eventually(what string, check func() error) {
	c.t.Helper()
	testkit.Eventually(c.t, what, readyTimeout, func() error {
		err := check()
		if err != nil {
			time.Sleep(pause)
		}
		return err
	})
}

// ask runs a probe as the kubelet would.
func (c *cluster) ask(name string, probe *corev1.Probe) error {
	p := c.pods[name]
	if !p.process.Running() {
		return fmt.Errorf("it has ended: %s%s", p.process.Stdout(), p.process.Stderr())
	}
	number := func(name string) string { return strconv.Itoa(int(portOf(c.set.podsOf[p.of], name))) }
	switch {
	case probe.HTTPGet != nil:
		port := number(probe.HTTPGet.Port.StrVal)
		_, err := c.try("curl", "--silent", "--show-error", "--fail", "http://"+p.address+":"+port+probe.HTTPGet.Path)
		return err
	case probe.TCPSocket != nil:
		port := number(probe.TCPSocket.Port.StrVal)
		_, err := c.try("bash", "-c", "exec 3<>/dev/tcp/"+p.address+"/"+port)
		return err
	}
	_, err := c.exec(name, probe.Exec.Command...)
	return err
}

// exec runs a command in a pod.
func (c *cluster) exec(name string, command ...string) (string, error) {
	p := c.pods[name]
	sec := c.set.podsOf[p.of].Spec.SecurityContext
	enter := []string{
		"nsenter", "--target", strconv.Itoa(p.process.PID()), "--net", "--mount", "--root", "setpriv",
		"--reuid", strconv.FormatInt(*sec.RunAsUser, 10), "--regid", strconv.FormatInt(*sec.RunAsGroup, 10), "--clear-groups",
		"env", "--ignore-environment", "PATH=/usr/local/bin:/usr/bin",
	}
	return output(c.t, append(enter, command...)...)
}

// try runs a command on the node.
func (c *cluster) try(command ...string) (string, error) {
	return output(c.t, append([]string{"nsenter", "--target", strconv.Itoa(c.node.PID()), "--net", "--mount"}, command...)...)
}

// onNode runs a command on the node. It must succeed.
func (c *cluster) onNode(command ...string) string {
	c.t.Helper()
	out, err := c.try(command...)
	c.must(err)
	return out
}

func (c *cluster) must(errs ...error) {
	c.t.Helper()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatal(err)
	}
}

func output(t *testing.T, command ...string) (string, error) {
	out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%q: %w: %s", command, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
