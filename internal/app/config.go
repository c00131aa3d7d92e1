package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Config is everything `serve` can be told. The zero value of a field means the
// default named in its comment. Secrets are given as files only.
type Config struct {
	Git       string        // URL or path of the fleet repository; required
	GitBranch string        // main
	GitPath   string        // ".": all of it
	Poll      time.Duration // 30 s

	GitTokenFile     string // http(s): a token, sent as the password
	GitUsername      string // http(s): basic authentication
	GitPasswordFile  string
	GitSSHKeyFile    string // ssh
	GitKnownHosts    string // ssh; ~/.ssh/known_hosts
	GitCAFile        string // http(s): PEM certificates to trust besides the system's
	GitSSHPassphrase string // file with the key's passphrase

	DataDir     string // ./bellwether-data
	ListenOpAMP string // 127.0.0.1:4320
	ListenHTTP  string // 127.0.0.1:8080
	ListenAdmin string // 127.0.0.1:9464

	AgentTokenFile string // bearer token every agent must present
	APITokenFile   string // bearer token for everything under /api
	Insecure       bool   // listen beyond loopback without authentication
	AllowEmpty     bool   // accept a commit that declares nothing

	Version string
	Commit  string
	Logger  *slog.Logger // nil discards
}

// The defaults of a [Config].
const (
	DefaultGitBranch   = "main"
	DefaultGitPath     = "."
	DefaultPoll        = 30 * time.Second
	DefaultDataDir     = "./bellwether-data"
	DefaultListenOpAMP = "127.0.0.1:4320"
	DefaultListenHTTP  = "127.0.0.1:8080"
	DefaultListenAdmin = "127.0.0.1:9464"
)

func (c *Config) setDefaults() error {
	if c.Git == "" {
		return errors.New("no fleet repository: say where it is with --git URL or --git PATH")
	}
	for field, value := range map[*string]string{
		&c.GitBranch: DefaultGitBranch, &c.GitPath: DefaultGitPath, &c.DataDir: DefaultDataDir,
		&c.ListenOpAMP: DefaultListenOpAMP, &c.ListenHTTP: DefaultListenHTTP, &c.ListenAdmin: DefaultListenAdmin,
		&c.Version: "dev",
	} {
		if *field == "" {
			*field = value
		}
	}
	if c.Poll == 0 {
		c.Poll = DefaultPoll
	}
	if c.Poll < time.Second {
		return fmt.Errorf("--poll %v is too often: at least 1s", c.Poll)
	}
	if c.GitKnownHosts == "" && isSSH(c.Git) {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("--git-known-hosts: %w", err)
		}
		c.GitKnownHosts = filepath.Join(home, ".ssh", "known_hosts")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c.checkExposure()
}

// isSSH reports whether a repository is reached by ssh: by URL, or as user@host:path.
func isSSH(git string) bool {
	if scheme, _, ok := strings.Cut(git, "://"); ok {
		return scheme == "ssh"
	}
	host, _, ok := strings.Cut(git, ":")
	return ok && strings.Contains(host, "@") && !strings.Contains(host, "/")
}

// checkExposure refuses to listen beyond loopback without authentication.
func (c *Config) checkExposure() error {
	if c.Insecure {
		return nil
	}
	for _, l := range []struct{ flag, address, remedy, token string }{
		{"--listen-opamp", c.ListenOpAMP, "--agent-token-file", c.AgentTokenFile},
		{"--listen-http", c.ListenHTTP, "--api-token-file", c.APITokenFile},
	} {
		local, err := isLoopback(l.address)
		if err != nil {
			return fmt.Errorf("%s %q: %w", l.flag, l.address, err)
		}
		if !local && l.token == "" {
			return fmt.Errorf("%s %s is not loopback and nobody would be authenticated: give %s, or say --insecure", l.flag, l.address, l.remedy)
		}
	}
	return nil
}

func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, errors.New("want host:port")
	}
	if host == "localhost" {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}

// readToken reads a secret from a file. An empty file is an error: it would
// authenticate nobody, or everybody.
func readToken(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s: %s is empty", flag, file)
	}
	return token, nil
}
