package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/spf13/cobra"
)

func newValidate() *cobra.Command {
	var allowEmpty bool
	var path string
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check a fleet repository as a commit would be checked",
		Long: `Check a fleet repository as a commit would be checked: every problem at once, as
file:line:col: rule: message on stdout. Exit code 1 if the commit would be rejected.

PATH is a directory, by default the current one; what is there is read, committed or not.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := "."
			if len(args) == 1 {
				root = args[0]
			}
			if info, err := os.Stat(root); err != nil {
				return &failure{code: exitUsage, err: err}
			} else if !info.IsDir() {
				return &failure{code: exitUsage, err: fmt.Errorf("%s is not a directory", root), hint: "give the root of the fleet repository"}
			}
			snapshot, err := app.ReadDir(cmd.Context(), filepath.Clean(root), path)
			if err != nil {
				return &failure{code: exitUsage, err: err}
			}
			set, problems := manifest.Parse(snapshot, manifest.Options{AllowEmpty: allowEmpty})
			for _, p := range problems {
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), p)
			}
			if set == nil {
				return &failure{code: exitNo, err: fmt.Errorf("%s would be rejected: %s", root, plural(len(problems), "problem"))}
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s would be accepted: %s\n", root, plural(len(set.Rollouts), "rollout"))
			return err
		},
	}
	cmd.Flags().BoolVar(&allowEmpty, "allow-empty", false, "accept a repository that declares nothing")
	cmd.Flags().StringVar(&path, "git-path", app.DefaultGitPath, "directory within the repository")
	return cmd
}
