package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera"
)

// checkPolicy reads a policy file with Torchwood and with Tessera, and says of each checkpoint file whether
// it meets the policy. The two have to agree.
func checkPolicy(path string, checkpoints []string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return "", fmt.Errorf("torchwood: %w", err)
	}
	group, err := tessera.NewWitnessGroupFromPolicy(text)
	if err != nil {
		return "", fmt.Errorf("tessera: %w", err)
	}
	var told []string
	for _, file := range checkpoints {
		note, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		_, _, refused := torchwood.VerifyCheckpoint(note, policy)
		if (refused == nil) != group.Satisfied(note) {
			return "", errors.Join(fmt.Errorf("%s: torchwood and tessera disagree", file), refused)
		}
		told = append(told, fmt.Sprint(refused == nil))
	}
	return strings.Join(told, " "), nil
}
