# Stands in for the kernel's `clock_gettime` in the page (vDSO) that every process reads its clocks
# by, static or not, through a C library or without one. The lab writes the four numbers.
    .text
    jmp     begin
    .balign 8
from:   .quad 0                 # moment of the boot-time clock from which it drifts, in ns
offset: .quad 0                 # added to the boot-time clock, in ns
rate:   .quad 0                 # what the boot-time clock gains, in parts of a million
wall:   .quad 0                 # added to the wall clock, in ns
begin:
    mov     $228, %eax          # clock_gettime(%edi, %rsi), which keeps both
    syscall
    test    %eax, %eax
    jnz     end
    cmp     $7, %edi            # CLOCK_BOOTTIME
    je      boot
    test    %edi, %edi          # CLOCK_REALTIME
    je      real
    cmp     $5, %edi            # CLOCK_REALTIME_COARSE
    jne     end
real:
    mov     wall(%rip), %r8
    jmp     add
boot:
    imul    $1000000000, (%rsi), %rax
    add     8(%rsi), %rax
    sub     from(%rip), %rax
    imul    rate(%rip), %rax
    cqto
    mov     $1000000, %rcx
    idiv    %rcx
    mov     %rax, %r8
    add     offset(%rip), %r8
add:
    imul    $1000000000, (%rsi), %rax
    add     8(%rsi), %rax
    add     %r8, %rax
    cqto
    mov     $1000000000, %rcx
    idiv    %rcx
    mov     %rax, (%rsi)
    mov     %rdx, 8(%rsi)
    xor     %eax, %eax
end:
    ret
