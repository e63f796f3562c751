package checkpoint

// This file owns random checkpoints: a directory of any size that is complete but for the
// tokenizer, written shard by shard.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bertc/bertc/internal/staging"
)

// InitOptions are the choices of a random checkpoint.
type InitOptions struct {
	Seed  uint64
	DType DType   // F32, BF16 or F16
	Std   float64 // standard deviation of matrices, Hugging Face's initializer_range
	// Outliers is how many channels have larger norm weights, in every norm.
	Outliers int
	// ShardBytes is the size that a file does not exceed, unless one tensor alone does; 0 is
	// 500 MB.
	ShardBytes int64
	Tokenizer  []byte                  // tokenizer.json, as given; nil for none
	Progress   func(done, total int64) // in bytes; may be nil
}

// Init writes a random checkpoint into dir, which must not exist or be empty: config.json as
// given, and the wanted tensors that are not optional. The same seed gives the same
// numbers, whatever the sharding. The directory appears when it is complete.
func Init(ctx context.Context, dir string, config []byte, wants []Want, o InitOptions) error {
	if !o.DType.IsWeight() {
		return fmt.Errorf("%s: dtype %q is not supported (supported: F32, BF16, F16)", dir, o.DType)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: the directory exists and is not empty", dir)
	} else if err != nil && !os.IsNotExist(err) {
		return pathError(dir, err)
	}
	return pathError(dir, staging.Dir(dir, func(tmp string) error { return initFiles(ctx, tmp, config, wants, o) }))
}

func initFiles(ctx context.Context, dir string, config []byte, wants []Want, o InitOptions) error {
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return err
	}
	if o.Tokenizer != nil {
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), o.Tokenizer, 0o644); err != nil {
			return err
		}
	}
	shards, total, err := planShards(wants, o)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	var done int64
	weightMap := map[string]string{}
	for s, shard := range shards {
		name := singleFile
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", s+1, len(shards))
		}
		infos := make([]Info, len(shard))
		for i, w := range shard {
			infos[i] = Info{fileName(w.Name, wants), o.DType, w.Shape}
			weightMap[infos[i].Name] = name
		}
		err := WriteFile(filepath.Join(dir, name), infos, func(i int, w io.Writer) error {
			return writeRandom(ctx, w, shard[i], o, func(n int64) {
				if done += n; o.Progress != nil {
					o.Progress(done, total)
				}
			})
		})
		if err != nil {
			return err
		}
	}
	if len(shards) < 2 {
		return nil
	}
	index, err := json.MarshalIndent(map[string]any{
		"metadata":   map[string]int64{"total_size": total},
		"weight_map": weightMap,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, indexFile), append(index, '\n'), 0o644)
}

// planShards divides the tensors that are written into files, in their order.
func planShards(wants []Want, o InitOptions) (shards [][]Want, total int64, err error) {
	limit := o.ShardBytes
	if limit == 0 {
		limit = 500_000_000
	}
	var size int64
	for _, w := range wants {
		if w.Optional {
			continue
		}
		n, err := byteSize(o.DType, w.Shape)
		if err != nil {
			return nil, 0, fmt.Errorf("tensor %q: %w", w.Name, err)
		}
		if total > 1<<62-n {
			return nil, 0, fmt.Errorf("tensor %q: the model is too large", w.Name)
		}
		if len(shards) == 0 || size+n > limit {
			shards, size = append(shards, nil), 0
		}
		size, total = size+n, total+n
		shards[len(shards)-1] = append(shards[len(shards)-1], w)
	}
	return shards, total, nil
}

// fileName is the name that Hugging Face's class would write: with a head, the encoder is the
// member "bert".
func fileName(canonical string, wants []Want) string {
	if strings.HasPrefix(canonical, "cls.") {
		return canonical
	}
	for _, w := range wants {
		if strings.HasPrefix(w.Name, "cls.") {
			return "bert." + canonical
		}
	}
	return canonical
}
