package checkpoint

// This file owns the mapping of tensor names. The table below is the only place to change when
// a checkpoint spells its tensors in another way.

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/bertc/bertc/internal/nearest"
)

// prefixes may stand in front of every name of the table.
var prefixes = []string{"bert.", "model.", "retrieva_bert."}

// nameRow maps one spelling to the canonical name. {N} stands for the layer number; a final *
// stands for "weight" or "bias" on both sides. A row without a canonical name is a tensor that
// is known and left out, for the reason given.
type nameRow struct {
	spelling  string
	canonical string
	ignored   string
}

// names is the table. The first group is also the list of the canonical names.
var names = []nameRow{
	// Megatron-BERT style, as Hugging Face's transformers writes it.
	{spelling: "embeddings.word_embeddings.weight", canonical: "embeddings.word_embeddings.weight"},
	{spelling: "embeddings.position_embeddings.weight", canonical: "embeddings.position_embeddings.weight"},
	{spelling: "encoder.layer.{N}.attention.ln.*", canonical: "encoder.layer.{N}.attention.ln.*"},
	{spelling: "encoder.layer.{N}.attention.self.query.*", canonical: "encoder.layer.{N}.attention.self.query.*"},
	{spelling: "encoder.layer.{N}.attention.self.key.*", canonical: "encoder.layer.{N}.attention.self.key.*"},
	{spelling: "encoder.layer.{N}.attention.self.value.*", canonical: "encoder.layer.{N}.attention.self.value.*"},
	{spelling: "encoder.layer.{N}.attention.output.dense.*", canonical: "encoder.layer.{N}.attention.output.dense.*"},
	{spelling: "encoder.layer.{N}.ln.*", canonical: "encoder.layer.{N}.ln.*"},
	{spelling: "encoder.layer.{N}.mlp.gate_proj.*", canonical: "encoder.layer.{N}.mlp.gate_proj.*"},
	{spelling: "encoder.layer.{N}.mlp.up_proj.*", canonical: "encoder.layer.{N}.mlp.up_proj.*"},
	{spelling: "encoder.layer.{N}.mlp.down_proj.*", canonical: "encoder.layer.{N}.mlp.down_proj.*"},
	{spelling: "encoder.ln.*", canonical: "encoder.ln.*"},
	{spelling: "cls.predictions.transform.dense.*", canonical: "cls.predictions.transform.dense.*"},
	{spelling: "cls.predictions.transform.LayerNorm.*", canonical: "cls.predictions.transform.LayerNorm.*"},
	{spelling: "cls.predictions.bias", canonical: "cls.predictions.bias"},
	{spelling: "cls.predictions.decoder.weight", canonical: "cls.predictions.decoder.weight"},
	{spelling: "cls.predictions.decoder.bias", canonical: "cls.predictions.bias"},
	{spelling: "pooler.dense.*", canonical: "pooler.dense.*"},
	{spelling: "classifier.*", canonical: "classifier.*"},
	{spelling: "qa_outputs.*", canonical: "qa_outputs.*"},

	// Variations of the Megatron-BERT style.
	{spelling: "encoder.layer.{N}.attention.norm.*", canonical: "encoder.layer.{N}.attention.ln.*"},
	{spelling: "encoder.layer.{N}.attention.layernorm.*", canonical: "encoder.layer.{N}.attention.ln.*"},
	{spelling: "encoder.layer.{N}.norm.*", canonical: "encoder.layer.{N}.ln.*"},
	{spelling: "encoder.layer.{N}.layernorm.*", canonical: "encoder.layer.{N}.ln.*"},
	{spelling: "encoder.layer.{N}.gate_proj.*", canonical: "encoder.layer.{N}.mlp.gate_proj.*"},
	{spelling: "encoder.layer.{N}.up_proj.*", canonical: "encoder.layer.{N}.mlp.up_proj.*"},
	{spelling: "encoder.layer.{N}.down_proj.*", canonical: "encoder.layer.{N}.mlp.down_proj.*"},
	{spelling: "encoder.layer.{N}.intermediate.gate_proj.*", canonical: "encoder.layer.{N}.mlp.gate_proj.*"},
	{spelling: "encoder.layer.{N}.intermediate.up_proj.*", canonical: "encoder.layer.{N}.mlp.up_proj.*"},
	{spelling: "encoder.layer.{N}.intermediate.down_proj.*", canonical: "encoder.layer.{N}.mlp.down_proj.*"},
	{spelling: "encoder.layer.{N}.output.down_proj.*", canonical: "encoder.layer.{N}.mlp.down_proj.*"},
	{spelling: "encoder.norm.*", canonical: "encoder.ln.*"},
	{spelling: "encoder.final_layernorm.*", canonical: "encoder.ln.*"},
	{spelling: "cls.predictions.transform.ln.*", canonical: "cls.predictions.transform.LayerNorm.*"},
	{spelling: "cls.predictions.transform.norm.*", canonical: "cls.predictions.transform.LayerNorm.*"},

	// Llama style.
	{spelling: "embed_tokens.weight", canonical: "embeddings.word_embeddings.weight"},
	{spelling: "embed_positions.weight", canonical: "embeddings.position_embeddings.weight"},
	{spelling: "layers.{N}.input_layernorm.*", canonical: "encoder.layer.{N}.attention.ln.*"},
	{spelling: "layers.{N}.self_attn.q_proj.*", canonical: "encoder.layer.{N}.attention.self.query.*"},
	{spelling: "layers.{N}.self_attn.k_proj.*", canonical: "encoder.layer.{N}.attention.self.key.*"},
	{spelling: "layers.{N}.self_attn.v_proj.*", canonical: "encoder.layer.{N}.attention.self.value.*"},
	{spelling: "layers.{N}.self_attn.o_proj.*", canonical: "encoder.layer.{N}.attention.output.dense.*"},
	{spelling: "layers.{N}.post_attention_layernorm.*", canonical: "encoder.layer.{N}.ln.*"},
	{spelling: "layers.{N}.mlp.gate_proj.*", canonical: "encoder.layer.{N}.mlp.gate_proj.*"},
	{spelling: "layers.{N}.mlp.up_proj.*", canonical: "encoder.layer.{N}.mlp.up_proj.*"},
	{spelling: "layers.{N}.mlp.down_proj.*", canonical: "encoder.layer.{N}.mlp.down_proj.*"},
	{spelling: "norm.*", canonical: "encoder.ln.*"},
	{spelling: "lm_head.weight", canonical: "cls.predictions.decoder.weight"},
	{spelling: "lm_head.bias", canonical: "cls.predictions.bias"},

	// Known and left out.
	{spelling: "embeddings.position_ids", ignored: "it is the sequence 0, 1, 2, …"},
	{spelling: "rotary_emb.inv_freq", ignored: "it is computed from rope_theta"},
	{spelling: "encoder.rotary_emb.inv_freq", ignored: "it is computed from rope_theta"},
	{spelling: "encoder.layer.{N}.attention.self.rotary_emb.inv_freq", ignored: "it is computed from rope_theta"},
	{spelling: "layers.{N}.self_attn.rotary_emb.inv_freq", ignored: "it is computed from rope_theta"},
	{spelling: "cls.seq_relationship.*", ignored: "no task uses the next-sentence head"},
}

// nameIndex holds the table with the final * written out.
var nameIndex = func() map[string]nameRow {
	index := map[string]nameRow{}
	for _, r := range names {
		stem, star := strings.CutSuffix(r.spelling, ".*")
		if !star {
			index[r.spelling] = r
			continue
		}
		for _, leaf := range []string{".weight", ".bias"} {
			index[stem+leaf] = nameRow{stem + leaf, strings.Replace(r.canonical, ".*", leaf, 1), r.ignored}
		}
	}
	return index
}()

// lookupName finds the row of a tensor name and returns its canonical name, "" for an ignored
// tensor.
func lookupName(name string) (canonical string, row nameRow, ok bool) {
	pattern, layer, ok := layerPattern(name)
	if !ok {
		return "", nameRow{}, false
	}
	row, ok = nameIndex[pattern]
	for _, p := range prefixes {
		if rest, has := strings.CutPrefix(pattern, p); has && !ok {
			row, ok = nameIndex[rest]
		}
	}
	return strings.Replace(row.canonical, "{N}", layer, 1), row, ok
}

// layerPattern replaces the first decimal component of a name by {N}. ok is false for a name
// that contains a brace of its own.
func layerPattern(name string) (pattern, layer string, ok bool) {
	if strings.ContainsAny(name, "{}") {
		return name, "", false
	}
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if n, err := strconv.Atoi(p); err == nil && n >= 0 && strconv.Itoa(n) == p {
			parts[i] = "{N}"
			return strings.Join(parts, "."), p, true
		}
	}
	return name, "", true
}

// unknownNames is the sentence for tensors that no row explains. Layers are folded, so that it
// names each kind of tensor once.
func unknownNames(dir string, unknown []string) error {
	count := map[string]int{}
	var patterns []string
	for _, name := range unknown {
		p, _, _ := layerPattern(name)
		if count[p]++; count[p] == 1 {
			patterns = append(patterns, p)
		}
	}
	sort.Strings(patterns)
	const limit = 50
	var list []string
	for _, p := range patterns[:min(len(patterns), limit)] {
		text := fmt.Sprintf("%q", p)
		if strings.Contains(p, "{N}") {
			text += fmt.Sprintf(" (%d times)", count[p])
		}
		list = append(list, fmt.Sprintf("%s, nearest known name %q", text, nearestName(p)))
	}
	if more := len(patterns) - limit; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s: %d tensors have a name that the table in checkpoint/names.go does not know: %s", dir, len(unknown), strings.Join(list, "; "))
}

// nearestName returns the spelling of the table that differs least from the pattern.
func nearestName(pattern string) string {
	prefix := ""
	for _, p := range prefixes {
		if strings.HasPrefix(pattern, p) {
			prefix = p
		}
	}
	pattern = pattern[len(prefix):]
	best, bestDistance := "", -1
	for _, r := range names {
		for _, leaf := range []string{"weight", "bias"} {
			s := strings.Replace(r.spelling, "*", leaf, 1)
			if d := nearest.Distance(pattern, s); bestDistance < 0 || d < bestDistance {
				best, bestDistance = s, d
			}
		}
	}
	return prefix + best
}
