#include "weir/apps/quantizer.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <optional>
#include <set>
#include <sstream>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/base/thread_pool.h"
#include "weir/weights/checkpoint.h"
#include "weir/weights/names.h"
#include "weir/weights/quantize_rows.h"
#include "weir/weights/safetensors.h"
#include "weir/weights/safetensors_writer.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kWeight = ".weight";
constexpr int64_t kBlockBytes = int64_t{16} << 20;  // of the source, read and written at a time
constexpr const char* kInt8Type = "W8A8_DYNAMIC";

// One matrix or other tensor of the source and what it becomes.
struct Piece {
  Tensor source;
  std::string module;  // canonical, of a matrix that becomes int8; empty: copied
  std::vector<TensorPlan> outputs;
  int64_t nbytes() const {
    int64_t sum = 0;
    for (const TensorPlan& t : outputs) sum += t.nbytes();
    return sum;
  }
};

struct Shard {
  std::string file;
  size_t begin, end;  // pieces
  std::vector<TensorPlan> tensors;
  int64_t bytes = 0;
};

bool is_float(DType type) { return type == DType::kF32 || type == DType::kBF16 || type == DType::kF16; }

// What tensors of the source become, in the order of their names.
class Planner {
 public:
  Planner(const ModelConfig& config, const QuantizeOptions& options) : config_(config), options_(options) {}

  std::vector<Piece> plan(const Checkpoint& checkpoint) {
    for (const Checkpoint::Entry& entry : checkpoint.entries()) add(entry);
    std::vector<std::string> modules;
    for (const Piece& piece : pieces_)
      if (!piece.module.empty()) modules.push_back(piece.module);
    const std::vector<bool> int8 = options_.recipe.choose(config_, modules);
    size_t next = 0;
    for (Piece& piece : pieces_)
      if (!piece.module.empty()) decide(piece, int8[next++]);
    return std::move(pieces_);
  }

 private:
  void add(const Checkpoint::Entry& entry) {
    const auto stem_of = [&](std::string_view ending) { return entry.file_name.substr(0, entry.file_name.size() - ending.size()); };
    constexpr std::string_view kGateUp = "gate_up_proj", kDown = "down_proj";
    // Experts are written one by one, with gate and up apart, whatever the source does.
    const Tensor& t = entry.tensor;
    if (t.rank() == 3 && entry.name.find(".mlp.experts.") != std::string::npos) {
      const bool gate_up = entry.name.ends_with(".mlp.experts.gate_up_proj");
      if (!gate_up && !entry.name.ends_with(".mlp.experts.down_proj"))
        fail(ErrorCode::kInvalidArgument, "tensor ", shown(entry.file_name), " ", t.shape().str(), " is no expert tensor that weir knows");
      const std::string prefix = stem_of(gate_up ? kGateUp : kDown);
      for (int64_t e = 0; e < t.dim(0); ++e) {
        const std::string expert = prefix + std::to_string(e) + ".";
        if (gate_up)
          split(t[e], expert);
        else
          matrix(t[e], expert + "down_proj");
      }
    } else if (t.rank() == 2 && entry.name.ends_with(".gate_up_proj.weight")) {
      split(t, stem_of("gate_up_proj.weight"));
    } else if (t.rank() == 2 && entry.name.ends_with(kWeight)) {
      matrix(t, stem_of(kWeight));
    } else {
      pieces_.push_back({t, "", {{entry.file_name, t.dtype(), t.shape()}}});
    }
  }

  void split(const Tensor& gate_up, const std::string& prefix) {
    const int64_t half = gate_up.dim(0) / 2;
    matrix(gate_up.rows(0, half), prefix + "gate_proj");
    matrix(gate_up.rows(half, gate_up.dim(0)), prefix + "up_proj");
  }

  void matrix(const Tensor& t, const std::string& stem) {
    std::string module = canonical_name(stem + std::string(kWeight));
    module.resize(module.size() - kWeight.size());
    const std::string name = stem + std::string(kWeight);
    if (!is_float(t.dtype()))
      fail(ErrorCode::kInvalidArgument, "tensor ", shown(name), " is ", weir::name(t.dtype()), "; it must be float");
    pieces_.push_back({t, module, {{name, t.dtype(), t.shape()}}});
  }

  void decide(Piece& piece, bool int8) const {
    if (!int8) return piece.module.clear();
    TensorPlan& weight = piece.outputs.front();
    weight.dtype = DType::kI8;
    const TensorPlan scale{weight.name + "_scale", DType::kF32, {piece.source.dim(0), 1}};
    piece.outputs.push_back(scale);
    if (options_.format == QuantizedFormat::kAscend)
      piece.outputs.push_back({piece.outputs.front().name + "_offset", scale.dtype, scale.shape});
  }

  const ModelConfig& config_;
  const QuantizeOptions& options_;
  std::vector<Piece> pieces_;
};

std::string base_name(QuantizedFormat format) { return format == QuantizedFormat::kAscend ? "quant_model_weights" : "model"; }

std::vector<Shard> cut(const std::vector<Piece>& pieces, const QuantizeOptions& options) {
  std::vector<Shard> shards;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (shards.empty() || (shards.back().bytes > 0 && shards.back().bytes + pieces[i].nbytes() > options.max_shard_bytes))
      shards.push_back({"", i, i, {}, 0});
    Shard& shard = shards.back();
    shard.end = i + 1;
    shard.bytes += pieces[i].nbytes();
    shard.tensors.insert(shard.tensors.end(), pieces[i].outputs.begin(), pieces[i].outputs.end());
  }
  for (size_t i = 0; i < shards.size(); ++i) {
    std::ostringstream name;
    name << base_name(options.format);
    if (shards.size() > 1) name << '-' << std::setfill('0') << std::setw(5) << i + 1 << "-of-" << std::setw(5) << shards.size();
    shards[i].file = name.str() + ".safetensors";
  }
  return shards;
}

std::span<const std::byte> bytes_of(const Tensor& t) { return {static_cast<const std::byte*>(t.raw()), static_cast<size_t>(t.nbytes())}; }

class Quantizer {
 public:
  Quantizer(ThreadPool& pool, const std::function<void(int64_t)>& progress) : pool_(pool), progress_(progress) {}

  void write(const Piece& piece, SafetensorsWriter& out, QuantizeReport& report) {
    if (piece.module.empty()) return copy(piece.source, out);
    const int64_t rows = piece.source.dim(0), columns = piece.source.dim(1);
    const int64_t step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(1, columns * element_size(piece.source.dtype())));
    scales_.resize(static_cast<size_t>(rows));
    RowsError sum;
    for (int64_t begin = 0; begin < rows; begin += step) {
      const Tensor block = piece.source.rows(begin, std::min(begin + step, rows));
      bytes_.resize(static_cast<size_t>(block.numel()));
      RowsError part;
      try {
        part = quantize_rows(pool_, block, begin, bytes_,
                             std::span(scales_).subspan(static_cast<size_t>(begin), static_cast<size_t>(block.dim(0))));
      } catch (const Error& error) {
        fail(error.code, "tensor ", shown(piece.module + std::string(kWeight)), ": ", error.what());
      }
      sum.error += part.error;
      sum.size += part.size;
      out.write(std::as_bytes(std::span(bytes_)));
      done(block);
    }
    out.write(std::as_bytes(std::span(scales_)));
    if (piece.outputs.size() == 3) {
      std::fill(scales_.begin(), scales_.end(), 0.0f);
      out.write(std::as_bytes(std::span(scales_)));  // the offsets of a symmetric scheme
    }
    report.matrices.push_back({piece.module, sum.size > 0 ? std::sqrt(sum.error / sum.size) : 0.0});
  }

 private:
  void copy(const Tensor& source, SafetensorsWriter& out) {
    if (source.rank() == 0 || source.dim(0) == 0) return out.write(bytes_of(source));
    const int64_t row_bytes = source.nbytes() / source.dim(0), step = std::max<int64_t>(1, kBlockBytes / std::max<int64_t>(1, row_bytes));
    for (int64_t begin = 0; begin < source.dim(0); begin += step) {
      const Tensor block = source.rows(begin, std::min(begin + step, source.dim(0)));
      out.write(bytes_of(block));
      done(block);
    }
  }

  void done(const Tensor& block) {
    release_pages(block);
    if (progress_) progress_(block.nbytes());
  }

  ThreadPool& pool_;
  const std::function<void(int64_t)>& progress_;
  std::vector<int8_t> bytes_;
  std::vector<float> scales_;
};

// Under another name until it is whole.
void write_text(const fs::path& path, const std::string& text) {
  const fs::path partial = path.string() + ".partial";
  std::ofstream out(partial, std::ios::binary);
  out << text;
  out.close();
  if (!out) fail(ErrorCode::kUnavailable, "cannot write ", partial.string(), ": ", std::strerror(errno));
  fs::rename(partial, path);
}

// Tokenizer, chat template and what else lies beside the weights.
void copy_side_files(const fs::path& source, const fs::path& destination) {
  static const std::set<std::string> kWeights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".partial"};
  for (const fs::directory_entry& entry : fs::directory_iterator(source)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name.starts_with('.') || name == "config.json" || name.ends_with(".index.json") ||
        kWeights.contains(entry.path().extension().string()))
      continue;
    fs::copy_file(entry.path(), destination / name, fs::copy_options::overwrite_existing);
  }
}

void write_index(const fs::path& dir, const std::vector<Shard>& shards, const QuantizeOptions& options) {
  if (shards.size() < 2) return;
  int64_t total = 0;
  std::string map;
  for (const Shard& shard : shards) {
    total += shard.bytes;
    for (const TensorPlan& t : shard.tensors)
      map += concat(map.empty() ? "\n    " : ",\n    ", dump_json(Json(t.name)), ": ", dump_json(Json(shard.file)));
  }
  write_text(dir / (base_name(options.format) + ".safetensors.index.json"),
             concat("{\n  \"metadata\": {\"total_size\": ", total, "},\n  \"weight_map\": {", map, "\n  }\n}\n"));
}

void write_description(const fs::path& dir, const std::vector<Piece>& pieces) {
  std::string text = concat("{\n  \"version\": \"1.0.0\",\n  \"model_quant_type\": \"", kInt8Type,
                            "\",\n  \"metadata\": {},\n  \"group_size\": 0,\n  \"optional\": {}");
  for (const Piece& piece : pieces)
    for (const TensorPlan& t : piece.outputs)
      text += concat(",\n  ", dump_json(Json(t.name)), ": \"", piece.module.empty() ? "FLOAT" : kInt8Type, "\"");
  write_text(dir / "quant_model_description.json", text + "\n}\n");
}

// What compressed-tensors must not take for quantised: by name, or a whole part of the model that stays float.
Json ignore_list(const std::vector<Piece>& pieces) {
  const auto any_int8 = [&](std::string_view prefix) {
    return std::any_of(pieces.begin(), pieces.end(), [&](const Piece& p) { return p.module.starts_with(prefix); });
  };
  const bool all_of_mtp = !any_int8("mtp."), all_of_vision = !any_int8("model.visual.");
  Json out = Json::array();
  if (all_of_mtp) out.push_back("re:^mtp\\..*");
  if (all_of_vision) out.push_back("re:.*visual\\..*");
  for (const Piece& piece : pieces) {
    const std::string& name = piece.outputs.front().name;
    if (!piece.module.empty() || piece.source.rank() != 2 || !name.ends_with(kWeight) || name.ends_with("embed_tokens.weight")) continue;
    const std::string canonical = canonical_name(name);
    if ((all_of_mtp && canonical.starts_with("mtp.")) || (all_of_vision && canonical.starts_with("model.visual."))) continue;
    out.push_back(name.substr(0, name.size() - kWeight.size()));
  }
  return out;
}

std::string config_text(const QuantizeOptions& options, const std::vector<Piece>& pieces) {
  const std::string source = options.source + "/config.json";
  if (options.format == QuantizedFormat::kAscend) return read_file(source);  // nothing in it says that the model is quantised
  Json config = read_json_file(source);
  const Json weights = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "channel"}, {"dynamic", false}};
  const Json inputs = {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", "token"}, {"dynamic", true}};
  // The head is no Linear to vLLM but a class of its own: it is meant when it is named.
  Json targets = Json::array({"Linear"});
  if (std::any_of(pieces.begin(), pieces.end(), [](const Piece& p) { return p.module == "lm_head"; })) targets.push_back("lm_head");
  config["quantization_config"] = {
      {"quant_method", "compressed-tensors"},
      {"format", "int-quantized"},
      {"quantization_status", "compressed"},
      {"config_groups",
       {{"group_0", {{"targets", targets}, {"weights", weights}, {"input_activations", inputs}, {"format", "int-quantized"}}}}},
      {"ignore", ignore_list(pieces)}};
  return config.dump(2) + "\n";
}

void check_destination(const QuantizeOptions& options, int64_t bytes) {
  std::error_code error;
  const fs::path dir = options.destination;
  fs::create_directories(dir, error);
  if (error) fail(ErrorCode::kUnavailable, "cannot create ", options.destination, ": ", error.message());
  if (fs::exists(dir / "config.json"))
    fail(ErrorCode::kInvalidArgument, options.destination, " already holds a model (config.json); name an empty directory");
  if (!options.resume && !fs::is_empty(dir))
    fail(ErrorCode::kInvalidArgument, options.destination, " is not empty; name an empty directory, or give --resume to go on with the ",
         "shards that an interrupted run left there");
  if (const fs::space_info space = fs::space(dir, error); !options.resume && !error && space.available < static_cast<uint64_t>(bytes))
    fail(ErrorCode::kResourceExhausted, options.destination, " has ", space.available >> 20, " MiB free, ", bytes >> 20, " MiB are needed");
}

}  // namespace

QuantizeReport quantize_checkpoint(const QuantizeOptions& options, const std::function<void(int64_t)>& planned,
                                   const std::function<void(int64_t)>& progress) {
  const ModelConfig config = read_model_config(options.source);
  const Checkpoint checkpoint = Checkpoint::open(options.source);
  if (checkpoint.quantization().method() != Quantization::Method::kNone)
    fail(ErrorCode::kInvalidArgument, options.source, " is quantised already: ", checkpoint.quantization().method_name(),
         "; int8 is made of BF16, F16 or F32 checkpoints");
  const std::vector<Piece> pieces = Planner(config, options).plan(checkpoint);
  const std::vector<Shard> shards = cut(pieces, options);
  QuantizeReport report;
  report.source_bytes = checkpoint.total_bytes();
  report.shards = static_cast<int64_t>(shards.size());
  for (const Shard& shard : shards) report.written_bytes += shard.bytes;
  check_destination(options, report.written_bytes);
  if (planned) planned(report.source_bytes);

  ThreadPool pool(options.threads, /*pin=*/false);
  Quantizer quantizer(pool, progress);
  const fs::path dir = options.destination;
  for (const Shard& shard : shards) {
    const std::string path = (dir / shard.file).string();
    if (options.resume && SafetensorsWriter::is_written(path, shard.tensors)) {
      ++report.kept_shards;
      for (size_t i = shard.begin; i < shard.end; ++i)
        if (progress) progress(pieces[i].source.nbytes());
      continue;
    }
    SafetensorsWriter out(path, shard.tensors);
    for (size_t i = shard.begin; i < shard.end; ++i) quantizer.write(pieces[i], out, report);
    out.finish();
  }
  copy_side_files(options.source, dir);
  write_index(dir, shards, options);
  if (options.format == QuantizedFormat::kAscend) write_description(dir, pieces);
  write_text(dir / "config.json", config_text(options, pieces));
  return report;
}

}  // namespace weir
