// As much of JSON as vectors and weights need. Numbers keep every digit, both ways; what is not finite,
// for which JSON has no number, is written as "nan", "inf" or "-inf".
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace json {

struct Value {
    enum Kind { null, boolean, number, text, list, object } kind = null;
    double real = 0.0;               // of a number; 1 or 0 of true or false
    std::string string;              // of a text
    std::vector<Value> items;        // of a list, or by the names of an object
    std::vector<std::string> names;  // of an object

    Value() = default;
    Value(double x) : kind(number), real(x) {}
    Value(std::string s) : kind(text), string(std::move(s)) {}
    Value(const char* s) : Value(std::string(s)) {}
    Value(std::vector<Value> values) : kind(list), items(std::move(values)) {}

    Value& set(std::string name, Value value) {
        kind = object;
        names.push_back(std::move(name));
        items.push_back(std::move(value));
        return *this;
    }
    bool has(const std::string& name) const {
        for (const std::string& known : names)
            if (known == name) return true;
        return false;
    }
    const Value& operator[](const std::string& name) const {
        for (std::size_t i = 0; i < names.size(); ++i)
            if (names[i] == name) return items[i];
        throw std::runtime_error("JSON has no \"" + name + "\"");
    }
    double as_number() const { return expect(number), real; }
    const std::string& as_text() const { return expect(text), string; }
    const std::vector<Value>& as_list() const { return expect(list), items; }

   private:
    void expect(Kind wanted) const {
        if (kind != wanted) throw std::runtime_error("JSON has a value of the wrong type");
    }
};

class Reader {
   public:
    explicit Reader(const std::string& source) : at_(source.c_str()) {}

    Value read_all() {
        Value value = read(0);
        if (peek() != '\0') fail();
        return value;
    }

   private:
    Value read(int depth) {
        if (depth > 100) fail();
        const char c = peek();
        if (c == '{' || c == '[') return read_items(c == '{', depth);
        if (c == '"') return Value(read_text());
        if (c == 't' || c == 'f' || c == 'n') return read_word();
        if (c != '-' && (c < '0' || c > '9')) fail();
        char* end = nullptr;
        const double x = std::strtod(at_, &end);  // in the C locale, where every program starts
        at_ = end;
        return Value(x);
    }
    Value read_items(bool named, int depth) {
        const char close = named ? '}' : ']';
        Value value;
        value.kind = named ? Value::object : Value::list;
        ++at_;
        for (bool first = true; peek() != close; first = false) {
            if (!first) take(',');
            if (named) {
                peek();
                value.names.push_back(read_text());
                take(':');
            }
            value.items.push_back(read(depth + 1));
        }
        ++at_;
        return value;
    }
    std::string read_text() {
        std::string s;
        take('"');
        for (; *at_ != '"'; ++at_) {
            if (*at_ == '\0') fail();
            s += *at_ == '\\' ? read_escape() : *at_;
        }
        ++at_;
        return s;
    }
    char read_escape() {
        switch (*++at_) {
            case 'n': return '\n';
            case 't': return '\t';
            case 'r': return '\r';
            case 'b': return '\b';
            case 'f': return '\f';
            case 'u': return read_code();
            case '"': case '\\': case '/': return *at_;
            default: fail();
        }
    }
    char read_code() {  // of ASCII; nothing here depends on other characters
        char digits[5] = {};
        std::strncpy(digits, at_ + 1, 4);
        char* end = nullptr;
        const long code = std::strtol(digits, &end, 16);
        if (end != digits + 4) fail();
        at_ += 4;
        return code < 128 ? static_cast<char>(code) : '?';
    }
    Value read_word() {
        for (const char* word : {"true", "false", "null"}) {
            const std::size_t length = std::strlen(word);
            if (std::strncmp(at_, word, length) != 0) continue;
            at_ += length;
            Value value(word[0] == 't' ? 1.0 : 0.0);
            value.kind = word[0] == 'n' ? Value::null : Value::boolean;
            return value;
        }
        fail();
    }
    char peek() {
        while (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r') ++at_;
        return *at_;
    }
    void take(char c) {
        if (peek() != c) fail();
        ++at_;
    }
    [[noreturn]] void fail() const {
        throw std::runtime_error("this is not JSON: \"" + std::string(at_).substr(0, 20) + "\"");
    }

    const char* at_;
};

inline Value parse(const std::string& source) { return Reader(source).read_all(); }

inline std::string quoted(const std::string& s) {
    std::string out = "\"";
    for (const char c : s) {
        if (c == '"' || c == '\\') out += '\\';
        out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
    }
    return out + '"';
}

inline void write(const Value& value, std::string& out) {
    if (value.kind == Value::number) {
        char digits[32];
        std::snprintf(digits, sizeof digits, "%.17g", value.real);
        if (std::isfinite(value.real)) out += digits;
        else out += std::isnan(value.real) ? "\"nan\"" : value.real > 0.0 ? "\"inf\"" : "\"-inf\"";
    } else if (value.kind == Value::text) {
        out += quoted(value.string);
    } else if (value.kind == Value::list || value.kind == Value::object) {
        const bool named = value.kind == Value::object;
        out += named ? '{' : '[';
        for (std::size_t i = 0; i < value.items.size(); ++i) {
            if (i > 0) out += ", ";
            if (named) out += quoted(value.names[i]) + ": ";
            write(value.items[i], out);
        }
        out += named ? '}' : ']';
    } else {
        out += value.kind == Value::null ? "null" : value.real != 0.0 ? "true" : "false";
    }
}

inline std::string to_text(const Value& value) {
    std::string out;
    write(value, out);
    return out;
}

}  // namespace json
