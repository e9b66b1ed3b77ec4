// str(), repr() and json.dumps() of values.
#include <algorithm>
#include <cmath>

#include "weir/text/jinja_eval.h"
#include "weir/text/jinja_number.h"
#include "weir/text/jinja_unicode.h"
#include "weir/text/jinja_value.h"

namespace weir::jinja {
namespace {

constexpr int kMaxPrintDepth = 250;  // namespaces may hold themselves

void append_hex(std::string& out, const char* prefix, int digits, char32_t c) {
  out += prefix;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[c >> shift & 0xf];
}

// Builds text under the limits: each piece counts, so that shared items cannot blow up into endless text.
class Printer {
 public:
  Printer(Heap& heap, std::string& out) : heap_(heap), out_(out) {}

  void repr(const Value& value, int depth) {
    heap_.step();
    if (depth > kMaxPrintDepth) fault("a value is nested too deep to be printed");
    switch (value.kind()) {
      case Kind::kUndefined: return put("Undefined");
      case Kind::kNone: return put("None");
      case Kind::kBool: return put(value.as_bool() ? "True" : "False");
      case Kind::kInt: return put(to_decimal(value.as_int()));
      case Kind::kFloat: return put(repr_of_double(value.as_double()));
      case Kind::kString: return put(value.str().markup ? "Markup(" + repr_of_text(value.text()) + ")" : repr_of_text(value.text()));
      case Kind::kList: return items("[", value.list().items, "]", depth);
      case Kind::kTuple: return items("(", value.list().items, value.list().items.size() == 1 ? ",)" : ")", depth);
      case Kind::kDict: return pairs(value.dict().items, depth);
      case Kind::kRange: return range(value.range());
      case Kind::kKeys:
      case Kind::kValues:
      case Kind::kItems: return view(value, depth);
      case Kind::kNamespace: {
        put("<Namespace {");
        bool first = true;
        for (const auto& [name, attribute] : value.object<Namespace>().attributes) {
          put((first ? "" : ", ") + repr_of_text(name) + ": ");
          repr(attribute, depth + 1);
          first = false;
        }
        return put("}>");
      }
      case Kind::kLoop: {
        auto& loop = value.object<Loop>();
        return put(concat("<LoopContext ", loop.index0 + 1, "/", loop.total(), ">"));
      }
      case Kind::kMacro: {
        const std::string& name = value.object<const Macro>().definition->name;
        return put(concat("<Macro ", name.empty() ? "anonymous" : repr_of_text(name), ">"));
      }
      default: return put(concat("<", type_name(value), " object>"));
    }
  }

 private:
  void put(std::string_view text) {
    if (out_.size() + text.size() > kMaxOutputBytes) fault("text above ", kMaxOutputBytes >> 20, " MiB");
    heap_.work(text.size());
    out_ += text;
  }

  void items(std::string_view open, const std::vector<Value>& values, std::string_view close, int depth) {
    put(open);
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) put(", ");
      repr(values[i], depth + 1);
    }
    put(close);
  }

  void pairs(const Dict::Items& values, int depth) {
    put("{");
    for (size_t i = 0; i < values.size(); ++i) {
      if (i > 0) put(", ");
      repr(values[i].first, depth + 1);
      put(": ");
      repr(values[i].second, depth + 1);
    }
    put("}");
  }

  void view(const Value& value, int depth) {
    put(std::string(type_name(value)) + "([");
    Iterator it = iterate(value);
    bool first = true;
    for (Value item; next(heap_, it, item); first = false) {
      if (!first) put(", ");
      repr(item, depth + 1);
    }
    put("])");
  }

  void range(const Range& r) {
    put("range(" + to_decimal(r.start) + ", " + to_decimal(r.stop) + (r.step == 1 ? std::string() : ", " + to_decimal(r.step)) + ")");
  }

  Heap& heap_;
  std::string& out_;
};

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonFormat& format) : heap_(heap), format_(format) {}

  void print(const Value& value, int level) {
    heap_.step();
    switch (value.kind()) {
      case Kind::kNone: return put("null");
      case Kind::kBool: return put(value.as_bool() ? "true" : "false");
      case Kind::kInt: return put(to_decimal(value.as_int()));
      case Kind::kFloat: return put(number(value.as_double()));
      case Kind::kString: return string(value.text());
      case Kind::kList:
      case Kind::kTuple: return array(value.list().items, level);
      case Kind::kDict: return object(value.dict().items, level);
      default: fault("Object of type ", type_name(value), " is not JSON serializable");
    }
  }
  std::string out;

 private:
  void put(std::string_view text) {
    if (out.size() + text.size() > kMaxOutputBytes) fault("JSON text above ", kMaxOutputBytes >> 20, " MiB");
    heap_.work(text.size());
    out += text;
  }

  static std::string number(double d) {
    return std::isnan(d) ? "NaN" : std::isinf(d) ? (d < 0 ? "-Infinity" : "Infinity") : repr_of_double(d);
  }

  void string(std::string_view text) {
    std::string quoted = "\"";
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      const char32_t c = next_char(text, at);
      switch (c) {
        case '"': quoted += "\\\""; break;
        case '\\': quoted += "\\\\"; break;
        case '\n': quoted += "\\n"; break;
        case '\r': quoted += "\\r"; break;
        case '\t': quoted += "\\t"; break;
        case '\f': quoted += "\\f"; break;
        case '\b': quoted += "\\b"; break;
        default:
          if (c < 0x20 || (format_.ensure_ascii && c > 0x7f && c < 0x10000))
            append_hex(quoted, "\\u", 4, c);
          else if (format_.ensure_ascii && c >= 0x10000) {
            append_hex(quoted, "\\u", 4, 0xd800 + ((c - 0x10000) >> 10));
            append_hex(quoted, "\\u", 4, 0xdc00 + ((c - 0x10000) & 0x3ff));
          } else {
            quoted += text.substr(begin, at - begin);
          }
      }
    }
    put(quoted += '"');
  }

  void line(int level) {
    if (!format_.pretty) return;
    put("\n");
    for (int i = 0; i < level; ++i) put(format_.indent);
  }

  void array(const std::vector<Value>& items, int level) {
    if (items.empty()) return put("[]");
    put("[");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) put(format_.item_separator);
      line(level + 1);
      print(items[i], level + 1);
    }
    line(level);
    put("]");
  }

  void key(const Value& value) {
    switch (value.kind()) {
      case Kind::kString: return string(value.text());
      case Kind::kNone: return string("null");
      case Kind::kBool: return string(value.as_bool() ? "true" : "false");
      case Kind::kInt: return string(to_decimal(value.as_int()));
      case Kind::kFloat: return string(number(value.as_double()));
      default: fault("keys must be str, int, float, bool or None, not ", type_name(value));
    }
  }

  void object(const Dict::Items& items, int level) {
    if (items.empty()) return put("{}");
    std::vector<const std::pair<Value, Value>*> order;
    heap_.work(items.size() * sizeof(void*));
    for (const auto& item : items) order.push_back(&item);
    if (format_.sort_keys)
      std::stable_sort(order.begin(), order.end(), [&](const auto* a, const auto* b) { return less(heap_, a->first, b->first); });
    put("{");
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) put(format_.item_separator);
      line(level + 1);
      key(order[i]->first);
      put(format_.key_separator);
      print(order[i]->second, level + 1);
    }
    line(level);
    put("}");
  }

  Heap& heap_;
  const JsonFormat& format_;
};

}  // namespace

std::string repr_of_text(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = next_char(text, at);
    if (c == static_cast<char32_t>(quote) || c == '\\')
      out += '\\', out += static_cast<char>(c);
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if ((flags_of(c) & kPrintable) != 0)
      out += text.substr(begin, at - begin);
    else if (c < 0x100)
      append_hex(out, "\\x", 2, c);
    else if (c < 0x10000)
      append_hex(out, "\\u", 4, c);
    else
      append_hex(out, "\\U", 8, c);
  }
  return out += quote;
}

void append_repr(Heap& heap, const Value& value, std::string& out) { Printer(heap, out).repr(value, 0); }

void append_str(Heap& heap, const Value& value, std::string& out) {
  if (!value.is_defined()) return;
  if (!value.is_string()) return append_repr(heap, value, out);
  if (out.size() + value.text().size() > kMaxOutputBytes) fault("text above ", kMaxOutputBytes >> 20, " MiB");
  heap.work(value.text().size());
  out += value.text();
}

std::string to_str(Heap& heap, const Value& value) {
  std::string out;
  append_str(heap, value, out);
  return out;
}

std::string to_json(Heap& heap, const Value& value, const JsonFormat& format) {
  JsonPrinter printer(heap, format);
  printer.print(value, 0);
  return std::move(printer.out);
}

}  // namespace weir::jinja
