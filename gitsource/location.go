package gitsource

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

type protocol uint8

const (
	onDisk protocol = iota
	overHTTP
	overSSH
)

// location is a parsed [Config.URL]. It never holds a secret.
type location struct {
	protocol protocol
	secure   bool   // https
	user     string // from the URL; may be empty
	host     string // host:port; the port may be missing for http
	path     string // of the repository on its host, or absolute on this one
	text     string // for people
}

var (
	errNoURL     = errors.New("no git URL or path given")
	errURL       = errors.New("the git URL is not valid")
	errURLSecret = errors.New("the git URL holds a password: put it into a file and name that instead")
)

// parseLocation reads the forms that git itself takes: URLs with the schemes
// http, https, ssh and file, user@host:path, and paths.
func parseLocation(raw string) (location, error) {
	if raw == "" {
		return location{}, errNoURL
	}
	if !utf8.ValidString(raw) || strings.ContainsFunc(raw, unicode.IsControl) {
		return location{}, errURL
	}
	if strings.Contains(raw, "://") {
		return parseURL(raw)
	}
	if colon := strings.IndexByte(raw, ':'); colon > 0 && !strings.Contains(raw[:colon], "/") {
		return parseSCP(raw)
	}
	path, err := filepath.Abs(raw)
	if err != nil {
		return location{}, fmt.Errorf("finding the directory %s: %w", raw, err)
	}
	return location{path: path, text: path}, nil
}

func parseURL(raw string) (location, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return location{}, errURL // without the cause: it repeats the URL
	}
	if _, has := u.User.Password(); has {
		return location{}, errURLSecret
	}
	if u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return location{}, errURL
	}
	l := location{user: u.User.Username(), host: u.Host, path: u.Path}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		l.protocol, l.secure = overHTTP, strings.EqualFold(u.Scheme, "https")
		l.path = strings.TrimRight(u.EscapedPath(), "/")
	case "ssh", "git+ssh", "ssh+git":
		l.protocol = overSSH
		if strings.HasPrefix(l.path, "/~") {
			l.path = l.path[1:]
		}
		l.host = withPort(u.Hostname(), u.Port())
	case "file":
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return location{}, fmt.Errorf("%w: file URLs look like file:///absolute/path", errURL)
		}
		path := filepath.Clean(u.Path)
		return location{path: path, text: path}, nil
	default:
		return location{}, fmt.Errorf("git URLs with the scheme %q are not supported: use https, ssh or a path", u.Scheme)
	}
	if u.Hostname() == "" || l.path == "" || l.path == "/" || strings.HasPrefix(l.host, "-") {
		return location{}, fmt.Errorf("%w: it names no host or no repository", errURL)
	}
	u.User = nil
	l.text = u.String()
	if l.protocol == overSSH {
		l.text = "ssh://" + l.host + "/" + strings.TrimPrefix(l.path, "/")
	}
	return l, nil
}

// parseSCP reads user@host:path, whose path is relative to the user's home.
func parseSCP(raw string) (location, error) {
	who, path, _ := strings.Cut(raw, ":")
	user, host := "", who
	if at := strings.LastIndexByte(who, '@'); at >= 0 {
		user, host = who[:at], who[at+1:]
	}
	if _, after, found := strings.Cut(path, "@"); strings.Contains(user, "@") || found && strings.Contains(after, ":") {
		return location{}, errURLSecret // user:password@host:path
	}
	if host == "" || path == "" || strings.HasPrefix(host, "-") || strings.ContainsAny(host, "[] \\") {
		return location{}, fmt.Errorf("%w: want user@host:path", errURL)
	}
	return location{
		protocol: overSSH, user: user, host: withPort(host, ""), path: path, text: host + ":" + path,
	}, nil
}

func withPort(host, port string) string {
	if port == "" {
		port = "22"
	}
	return net.JoinHostPort(host, port)
}

// base returns the URL of an http repository, without credentials.
func (l location) base() string {
	scheme := "http://"
	if l.secure {
		scheme = "https://"
	}
	return scheme + l.host + l.path
}

// loopback reports whether the host is this machine by its very name.
func (l location) loopback() bool {
	host := l.host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
