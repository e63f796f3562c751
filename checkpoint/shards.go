package checkpoint

// This file owns finding the files of a checkpoint: one safetensors file, or an index with
// shards. Anything else that people keep weights in is refused with what to do about it.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

const (
	singleFile = "model.safetensors"
	indexFile  = "model.safetensors.index.json"
)

// pickles are name patterns of files that run code when they are read.
var pickles = []string{"*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.ckpt", "*.pkl"}

// convertPickle is the command that turns the pickles of a directory into safetensors. Tied
// tensors are cloned, because safetensors stores no sharing.
const convertPickle = `python3 -c 'import glob, sys, torch, safetensors.torch as s; d = sys.argv[1]; t = {}; ` +
	`[t.update(torch.load(f, map_location="cpu", weights_only=True)) for f in sorted(glob.glob(d + "/%s"))]; ` +
	`s.save_file({k: v.clone().contiguous() for k, v in t.items()}, d + "/model.safetensors", {"format": "pt"})' %s`

func openFiles(d directory) ([]*File, error) {
	present, err := d.list()
	if err != nil {
		return nil, err
	}
	switch {
	case slices.Contains(present, singleFile):
		f, err := d.open(singleFile)
		if err != nil {
			return nil, err
		}
		return []*File{f}, nil
	case slices.Contains(present, indexFile):
		return openShards(d)
	}
	for _, name := range present {
		if ok, _ := filepath.Match("model-*-of-*.safetensors", name); ok {
			return nil, fmt.Errorf("%s: no such file, but there are shards such as %s", d.path(indexFile), name)
		}
	}
	for _, pattern := range pickles {
		for _, name := range present {
			if ok, _ := filepath.Match(pattern, name); ok {
				return nil, pickleError(d, name)
			}
		}
	}
	return nil, fmt.Errorf("%s: neither %s nor %s is there", d.dir, singleFile, indexFile)
}

func pickleError(d directory, name string) error {
	glob := "*" + filepath.Ext(strings.TrimSuffix(name, ".index.json"))
	quoted := "'" + strings.ReplaceAll(d.dir, "'", `'\''`) + "'"
	return fmt.Errorf("%s: pickle files are not read, because reading one runs code from it; convert it with: "+convertPickle, d.path(name), glob, quoted)
}

// openShards opens the files that the index names and checks that index and files list the
// same tensors.
func openShards(d directory) (files []*File, err error) {
	index := d.path(indexFile)
	text, err := d.read(indexFile, maxHeader)
	if err != nil {
		return nil, err
	}
	shardOf, err := parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files = nil
		}
	}()
	var shards []string
	for _, shard := range shardOf {
		shards = append(shards, shard)
	}
	sort.Strings(shards)
	for _, shard := range slices.Compact(shards) {
		f, err := d.open(shard)
		if err != nil {
			return files, err
		}
		files = append(files, f)
		for _, t := range f.Tensors() {
			if want, ok := shardOf[t.Name]; !ok {
				return files, fmt.Errorf("%s: tensor %q is not listed in %s", f.path, t.Name, indexFile)
			} else if want != shard {
				return files, fmt.Errorf("%s: tensor %q belongs to %s according to %s", f.path, t.Name, want, indexFile)
			}
		}
	}
	var missing []string
	for name, shard := range shardOf {
		if !slices.ContainsFunc(files, func(f *File) bool { _, ok := f.index[name]; return ok }) {
			missing = append(missing, fmt.Sprintf("%s: tensor %q is missing, %s lists it", d.path(shard), name, indexFile))
		}
	}
	if len(missing) > 0 {
		return files, fmt.Errorf("%s", slices.Min(missing))
	}
	return files, nil
}

// parseIndex returns the file of every tensor.
func parseIndex(text []byte) (map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var shardOf map[string]string
	err := object(d, func(key string) error {
		if key != "weight_map" {
			var skip json.RawMessage
			return d.Decode(&skip)
		}
		if shardOf != nil {
			return fmt.Errorf("field \"weight_map\" occurs twice")
		}
		shardOf = map[string]string{}
		return object(d, func(name string) error {
			t, err := d.Token()
			shard, ok := t.(string)
			if err != nil || !ok {
				return fmt.Errorf("tensor %q: expected a file name, found %s", name, show(t))
			}
			if shard == "" || strings.ContainsAny(shard, `/\`) || !filepath.IsLocal(shard) || filepath.Ext(shard) != ".safetensors" {
				return fmt.Errorf("tensor %q: %q is not the name of a safetensors file beside the index", name, shard)
			}
			if _, ok := shardOf[name]; ok {
				return fmt.Errorf("tensor %q occurs twice", name)
			}
			shardOf[name] = shard
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if len(shardOf) == 0 {
		return nil, fmt.Errorf("field \"weight_map\" is missing or empty")
	}
	return shardOf, nil
}
