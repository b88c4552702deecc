// Two faults on purpose, in the sanitized library alone (sanitized.py): a sanitizer that does not
// see its own proves nothing.
#include <thread>

extern "C" __attribute__((visibility("default"))) int planted_address(int index) {
  int* volatile numbers = new int[4]();  // volatile: nobody but AddressSanitizer knows how many
  const int read = numbers[index];       // 4: beyond the end
  delete[] numbers;
  return read;
}

extern "C" __attribute__((visibility("default"))) int planted_thread(int) {
  int count = 0;
  std::thread other([&] { ++count; });
  ++count;
  other.join();
  return count;
}
