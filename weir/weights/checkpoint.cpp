#include "weir/weights/checkpoint.h"

#include <simdjson.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "weir/base/error.h"
#include "weir/base/json.h"
#include "weir/weights/names.h"
#include "weir/weights/safetensors.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";
constexpr int64_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxDepth = 8;

bool by_name(const Checkpoint::Entry& a, const Checkpoint::Entry& b) { return a.name < b.name; }

std::string join(const std::string& dir, const std::string& file) { return (fs::path(dir) / file).string(); }

std::set<std::string> safetensors_files(const std::string& dir) {
  std::error_code error;
  fs::directory_iterator it(dir, error);
  if (error) fail(ErrorCode::kNotFound, "cannot read the model directory ", dir, ": ", error.message());
  std::set<std::string> files;
  for (const fs::directory_iterator end; it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (file.ends_with(kExtension) && !file.starts_with('.')) files.insert(file);
    if (error) break;
  }
  if (error) fail(ErrorCode::kNotFound, "cannot read the model directory ", dir, ": ", error.message());
  return files;
}

using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor as the file spells it -> file name

WeightMap read_index(const std::string& path) {
  const std::string text = read_file(path, kMaxIndexBytes);
  simdjson::dom::parser parser;
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 64), kMaxDepth); error)
    fail(ErrorCode::kResourceExhausted, path, ": cannot parse ", text.size(), " bytes of JSON: ", simdjson::error_message(error));
  simdjson::dom::element root;
  if (const auto error = parser.parse(simdjson::padded_string(text)).get(root); error)
    fail(ErrorCode::kInvalidArgument, path, ": not valid JSON: ", simdjson::error_message(error));
  simdjson::dom::object weights;
  if (root["weight_map"].get(weights) != simdjson::SUCCESS) fail(ErrorCode::kInvalidArgument, path, ": \"weight_map\" must be an object");

  WeightMap map;
  for (const auto [tensor, value] : weights) {
    std::string_view file;
    if (value.get(file) != simdjson::SUCCESS)
      fail(ErrorCode::kInvalidArgument, path, ": weight_map[", shown(tensor), "] must be a file name");
    // A plain name only: an index must not reach files outside the model's directory.
    if (!file.ends_with(kExtension) || file.starts_with('.') || file.find_first_of(std::string_view("/\\\0", 3)) != file.npos)
      fail(ErrorCode::kInvalidArgument, path, ": weight_map[", shown(tensor), "] = ", shown(file), " is not a plain *.safetensors name");
    if (!map.emplace(tensor, file).second) fail(ErrorCode::kInvalidArgument, path, ": weight_map names ", shown(tensor), " twice");
  }
  if (map.empty()) fail(ErrorCode::kInvalidArgument, path, ": \"weight_map\" is empty");
  return map;
}

std::optional<std::string> find_index(const std::string& dir) {
  for (const char* file : {"model.safetensors.index.json", "quant_model_weights.safetensors.index.json"}) {
    std::string path = join(dir, file);
    std::error_code error;
    if (fs::exists(path, error)) return path;
  }
  return std::nullopt;
}

void append(const std::string& path, std::vector<Checkpoint::Entry>& entries) {
  const MappedFile file = map_file(path);
  for (const TensorHeader& t : parse_safetensors(file.bytes, path)) {
    // The mapping is read-only; a Tensor has no const form, and nothing writes weights.
    void* data = const_cast<std::byte*>(file.bytes.data() + t.begin);
    entries.push_back({canonical_name(t.name), t.name, Tensor(data, t.shape, t.dtype, file.owner), path});
  }
}

void append_indexed(const std::string& dir, const std::string& index_path, std::vector<Checkpoint::Entry>& entries) {
  const WeightMap map = read_index(index_path);
  std::set<std::string> files;
  for (const auto& [tensor, file] : map) files.insert(file);
  for (const std::string& file : files) {
    std::error_code error;
    if (!fs::exists(join(dir, file), error)) fail(ErrorCode::kNotFound, index_path, " names ", file, ", which is missing in ", dir);
    append(join(dir, file), entries);
  }
  // Where the index says that a tensor lies in another shard, that copy counts.
  std::erase_if(entries, [&](const Checkpoint::Entry& e) {
    const auto it = map.find(e.file_name);
    return it != map.end() && join(dir, it->second) != e.path;
  });
  std::set<std::string_view> seen;
  for (const Checkpoint::Entry& e : entries) seen.insert(e.file_name);
  for (const auto& [tensor, file] : map) {
    if (!seen.contains(tensor))
      fail(ErrorCode::kInvalidArgument, index_path, " says that ", file, " holds ", shown(tensor), ", but it does not");
  }

  // Some exports write the MTP head to a file of its own and forget it in the index.
  const auto is_mtp = [](const Checkpoint::Entry& e) { return e.name.starts_with("mtp."); };
  if (std::any_of(entries.begin(), entries.end(), is_mtp)) return;
  for (const std::string& file : safetensors_files(dir)) {
    if (!files.contains(file) && file.find("mtp") != file.npos) append(join(dir, file), entries);
  }
}

// Levenshtein distance, or `limit` when it is not below it.
size_t distance(std::string_view a, std::string_view b, size_t limit) {
  if (std::max(a.size(), b.size()) - std::min(a.size(), b.size()) >= limit) return limit;
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    size_t least = row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      least = std::min(least, row[j]);
    }
    if (least >= limit) return limit;
  }
  return std::min(row[b.size()], limit);
}

std::string close_names(const std::vector<Checkpoint::Entry>& entries, std::string_view name) {
  constexpr size_t kLimit = 12, kShown = 3;
  std::multimap<size_t, std::string_view> best;
  for (const Checkpoint::Entry& e : entries) {
    const size_t limit = best.size() < kShown ? kLimit : std::prev(best.end())->first;
    const size_t d = distance(name, e.name, limit);
    if (d >= limit) continue;
    best.emplace(d, e.name);
    if (best.size() > kShown) best.erase(std::prev(best.end()));
  }
  std::string text;
  for (const auto& [d, close] : best) text += concat(text.empty() ? "; close names: '" : ", '", close, "'");
  return text;
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& dir) {
  Checkpoint checkpoint;
  std::vector<Entry>& entries = checkpoint.entries_;
  if (const auto index = find_index(dir)) {
    append_indexed(dir, *index, entries);
  } else {
    for (const std::string& file : safetensors_files(dir)) append(join(dir, file), entries);
  }
  if (entries.empty()) fail(ErrorCode::kNotFound, "no tensors in ", dir, ": it has no *.safetensors file, or only empty ones");

  std::sort(entries.begin(), entries.end(), by_name);
  const auto twice = std::adjacent_find(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name == b.name; });
  if (twice != entries.end()) {
    const Entry& other = *std::next(twice);
    fail(ErrorCode::kInvalidArgument, "tensor '", twice->name, "' occurs twice: as '", twice->file_name, "' in ", twice->path, " and as '",
         other.file_name, "' in ", other.path);
  }
  checkpoint.quantization_ = Quantization::read(dir);
  return checkpoint;
}

LinearFormat Checkpoint::format(std::string_view canonical_name) const {
  constexpr std::string_view kWeight = "weight";
  const Entry* entry = find(canonical_name);
  if (entry == nullptr) return LinearFormat::kFloat;
  std::string input_scale(canonical_name);
  if (input_scale.ends_with(kWeight)) input_scale.replace(input_scale.size() - kWeight.size(), kWeight.size(), "input_scale");
  return quantization_.format({canonical_name, entry->file_name, entry->tensor.dtype(), find(input_scale) != nullptr});
}

const Checkpoint::Entry* Checkpoint::find(std::string_view canonical_name) const {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), canonical_name,
                                   [](const Entry& e, std::string_view name) { return e.name < name; });
  return it != entries_.end() && it->name == canonical_name ? &*it : nullptr;
}

int64_t Checkpoint::total_bytes() const {
  return std::accumulate(entries_.begin(), entries_.end(), int64_t{0}, [](int64_t sum, const Entry& e) { return sum + e.tensor.nbytes(); });
}

Tensor WeightReader::take(std::string_view name, const Shape& shape) {
  const auto& entries = checkpoint_.entries();
  const Checkpoint::Entry* entry = checkpoint_.find(name);
  if (entry == nullptr)
    fail(ErrorCode::kNotFound, "tensor '", name, "' ", shape.str(), " is missing in the checkpoint", close_names(entries, name));
  if (entry->tensor.shape() != shape)
    fail(ErrorCode::kInvalidArgument, "tensor '", entry->file_name, "' in ", entry->path, " has shape ", entry->tensor.shape().str(),
         ", config.json asks for ", shape.str());
  taken_[static_cast<size_t>(entry - entries.data())] = true;
  return entry->tensor;
}

void WeightReader::ignore(std::string_view prefix) {
  const auto& entries = checkpoint_.entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].name.starts_with(prefix)) taken_[i] = true;
  }
}

void WeightReader::expect_all_taken() const {
  constexpr size_t kShown = 10;
  const auto& entries = checkpoint_.entries();
  size_t num_left = 0;
  std::string text;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (taken_[i] || num_left++ >= kShown) continue;
    text += concat(text.empty() ? "'" : ", '", entries[i].file_name, "' ", entries[i].tensor.shape().str());
  }
  if (num_left == 0) return;
  fail(ErrorCode::kInvalidArgument, num_left, num_left == 1 ? " tensor of the checkpoint does" : " tensors of the checkpoint do",
       " not belong to the model that config.json describes: ", text, num_left > kShown ? ", …" : "");
}

}  // namespace weir
