// Command bellwether moves the configs of a fleet of OpenTelemetry Collectors from
// a git repository to the agents over OpAMP, a few first, then in waves.
//
// Data goes to stdout, everything else to stderr. Exit codes: 0 yes, 1 a negative
// answer, 2 usage or could not run, 3 timed out, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitNo          = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// version and builtFrom are set by the linker (see the Makefile).
var (
	version   = "dev"
	builtFrom = ""
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process: testscript and tests call it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return exitInterrupted
	}
	failure := &failure{code: exitUsage, err: err} // cobra's own errors are about usage
	errors.As(err, &failure)
	if failure.err != nil {
		_, _ = fmt.Fprintln(stderr, "bellwether:", failure.err)
	}
	if failure.hint != "" {
		_, _ = fmt.Fprintln(stderr, "hint:", failure.hint)
	}
	return failure.code
}

// failure is an error with the exit code it means and, when we know one, a hint.
// Without an error it is a plain "no" whose reasons were already printed.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string {
	if f.err == nil {
		return "no"
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "bellwether",
		Short:         "OpAMP from git: a commit reaches a fleet of Collectors in canary and waves",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "act", Title: "Act (each names the target you saw; a stale one is refused):"},
	)
	conn := &connection{}
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", newServe(), newValidate(), newDemo(), newFlock())
	add("see", newGet(conn), newDescribe(conn), newWatch(conn))
	add("act", newVerbs(conn)...)
	root.AddCommand(newVersion())
	return root
}
