package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/internal/otelconf"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newServe() *cobra.Command {
	var cfg app.Config
	var file, level, format string
	cmd := &cobra.Command{
		Use:   "serve --git URL|PATH",
		Short: "Follow a git repository and move the fleet",
		Long: `Follow a git repository and move the fleet.

Every flag can also be a line of the YAML file given with --config, under the flag's
name without the dashes; flags win. Secrets are given as files, never as values.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := settingsFrom(file, cmd.Flags()); err != nil {
				return &failure{code: exitUsage, err: err}
			}
			log, err := newLogger(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return &failure{code: exitUsage, err: err}
			}
			cfg.Logger, cfg.Version, cfg.Commit = log, version, commit()
			running, err := app.Start(cmd.Context(), cfg)
			if err != nil {
				return &failure{code: exitUsage, err: err}
			}
			if err := running.Run(cmd.Context()); err != nil {
				return &failure{code: exitNo, err: err}
			}
			return nil
		},
	}
	serveFlags(cmd.Flags(), &cfg)
	cmd.Flags().StringVar(&file, "config", "", "YAML file with any of these settings; flags win")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	return cmd
}

func serveFlags(f *pflag.FlagSet, cfg *app.Config) {
	f.StringVar(&cfg.Git, "git", "", "fleet repository: https, ssh, or a local path")
	f.StringVar(&cfg.GitBranch, "git-branch", app.DefaultGitBranch, "branch to follow")
	f.StringVar(&cfg.GitPath, "git-path", app.DefaultGitPath, "directory within the repository")
	f.DurationVar(&cfg.Poll, "poll", app.DefaultPoll, "how often to look at the repository")
	f.StringVar(&cfg.GitTokenFile, "git-token-file", "", "file with a token for https")
	f.StringVar(&cfg.GitUsername, "git-username", "", "user name for https")
	f.StringVar(&cfg.GitPasswordFile, "git-password-file", "", "file with the password for https")
	f.StringVar(&cfg.GitCAFile, "git-ca-file", "", "PEM certificates to trust for https, besides the system's")
	f.StringVar(&cfg.GitSSHKeyFile, "git-ssh-key", "", "private key file for ssh")
	f.StringVar(&cfg.GitSSHPassphrase, "git-ssh-passphrase-file", "", "file with the private key's passphrase")
	f.StringVar(&cfg.GitKnownHosts, "git-known-hosts", "", "known_hosts file for ssh (default ~/.ssh/known_hosts)")
	f.StringVar(&cfg.DataDir, "data-dir", app.DefaultDataDir, "where the records are kept")
	f.StringVar(&cfg.ListenOpAMP, "listen-opamp", app.DefaultListenOpAMP, "address for agents (/v1/opamp)")
	f.StringVar(&cfg.ListenHTTP, "listen-http", app.DefaultListenHTTP, "address for the API")
	f.StringVar(&cfg.ListenAdmin, "listen-admin", app.DefaultListenAdmin, "address for /metrics, /healthz and /readyz")
	f.StringVar(&cfg.AgentTokenFile, "agent-token-file", "", "file with the bearer token that agents must present")
	f.StringVar(&cfg.APITokenFile, "api-token-file", "", "file with the bearer token for the API")
	f.BoolVar(&cfg.Insecure, "insecure", false, "listen beyond loopback without authentication")
	f.BoolVar(&cfg.AllowEmpty, "allow-empty", false, "accept a commit that declares nothing")
}

// settingsFrom sets the flags that the file names and the command line does not.
func settingsFrom(file string, flags *pflag.FlagSet) error {
	if file == "" {
		return nil
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	settings, problems := manifest.ParseSettings(file, body)
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	for _, s := range settings {
		flag := flags.Lookup(s.Key)
		if flag == nil || s.Key == "config" || s.Key == "help" {
			return fmt.Errorf("%s:%d:%d: setting: unknown setting %q%s", file, s.Line, s.Col, s.Key, otelconf.DidYouMean(s.Key, names(flags)...))
		}
		if flag.Changed {
			continue
		}
		if err := flags.Set(s.Key, s.Value); err != nil {
			return fmt.Errorf("%s:%d:%d: setting: %w", file, s.Line, s.Col, err)
		}
	}
	return nil
}

// names are the flags there are.
func names(flags *pflag.FlagSet) []string {
	var out []string
	flags.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name) })
	return out
}

// newLogger writes to w, as text for people or JSON for machines.
func newLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}
