//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a program that runs, in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended and its output is written
}

// launch starts a program with its output going to out.
func launch(out io.Writer, name string, args ...string) (*process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(name), err)
	}
	running.add(cmd.Process.Pid)
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	return p, nil
}

// stop sends the signal and waits for the end. It fails if the process had to be
// killed, or if it left a child behind (which is killed too).
func (p *process) stop(sig syscall.Signal, within time.Duration) error {
	defer running.end(p.cmd.Process.Pid)
	if err := p.cmd.Process.Signal(sig); err != nil && p.runs() {
		return err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		running.end(p.cmd.Process.Pid)
		<-p.done
		return fmt.Errorf("%s still ran %v after %v", p.name(), within, sig)
	}
	if running.end(p.cmd.Process.Pid) {
		return fmt.Errorf("%s left a child behind", p.name())
	}
	return nil
}

func (p *process) runs() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) name() string { return filepath.Base(p.cmd.Path) }

// tail returns the last lines of a file, each cut to 400 bytes, for a person who
// looks at a failed test.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		all[i] = "    " + line[:min(len(line), 400)]
	}
	return strings.Join(all, "\n")
}
