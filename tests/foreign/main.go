// Command foreign checks what Salus wrote with libraries that nobody at Salus wrote: Go's sumdb/note and
// tlog, Tessera's fsck and witness policies, Torchwood's policies, and go-cose. It contains no cryptography and no tree arithmetic of its own.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// vkeys collects verifier keys from a flag that may be given several times.
type vkeys []note.Verifier

func (v *vkeys) String() string { return fmt.Sprint(len(*v)) }

// Set adds a key of any type that the libraries know (Ed25519 notes, Ed25519 cosignatures).
func (v *vkeys) Set(text string) error {
	verifier, err := note.NewVerifier(text)
	if err != nil {
		verifier, err = f_note.NewVerifierForCosignatureV1(text)
	}
	*v = append(*v, verifier)
	return err
}

func (v vkeys) named(name string) []note.Verifier {
	var found []note.Verifier
	for _, verifier := range v {
		if verifier.Name() == name {
			found = append(found, verifier)
		}
	}
	return found
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: foreign log|receipt|cose|policy FLAGS"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	var logs, shards, witnesses vkeys
	flags.Var(&logs, "log", "verifier key of the log")
	flags.Var(&shards, "shard", "verifier key of a shard; may be repeated")
	flags.Var(&witnesses, "witness", "verifier key of a witness; may be repeated")
	url := flags.String("url", "", "where the log is: file:///… or http://…")
	event := flags.String("event", "", "file with the event's value")
	_ = flags.Parse(os.Args[2:])
	if len(logs) != 1 && os.Args[1] != "policy" {
		fail(fmt.Errorf("exactly one -log is needed"))
	}

	var told string
	var err error
	switch os.Args[1] {
	case "log":
		told, err = checkLog(*url, logs[0], shards)
	case "receipt":
		told, err = checkReceipt(flags.Arg(0), *event, logs[0], shards, witnesses)
	case "cose":
		told, err = checkCose(flags.Arg(0), logs[0], shards)
	case "policy":
		told, err = checkPolicy(flags.Arg(0), flags.Args()[1:])
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
	fmt.Println(strings.TrimSpace(told))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "foreign:", err)
	os.Exit(1)
}
