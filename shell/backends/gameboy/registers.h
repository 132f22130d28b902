// The numbers of one lane, in the order in which they lie in State.registers, int32 each. Times are T-cycles (2^22 a
// second) since the beginning of the frame. The Python side reads the names here.

// The processor.
R(pc) R(sp) R(a) R(f) R(b) R(c) R(d) R(e) R(h) R(l)
R(ime)        // interrupts are taken
R(ime_delay)  // instructions until EI counts
R(halted)     // HALT waits, its own address still in pc
R(halt_again) // the interrupt that ends this HALT returns to it
R(halt_bug)   // the next opcode is read without moving pc
R(stopped)    // STOP waits for a button
R(fault)      // 1 + the illegal opcode that stopped this lane; 0: none
R(irq)        // IF
R(irq_enable) // IE
R(now)        // T-cycles
R(boot)       // the boot stub lies over the ROM

// Timer.
R(div)         // the 16-bit counter whose upper half is DIV
R(tima) R(tma) R(tac)
R(reload)      // 0; 1: TIMA has run over and reads 0; 2: it has just taken TMA
R(reload_left) // T-cycles of `reload` that are left
R(timer_at)    // the time up to which the timer has run

// Serial port and joypad.
R(sc)
R(serial_end) // when the transfer ends
R(joy_select) // the bits 4 and 5 of P1
R(buttons)    // held: A, B, select, start, right, left, up, down from bit 0 on

// OAM DMA.
R(dma) // the value of the register
R(dma_on)
R(dma_next)  // the byte that comes next
R(dma_start) // when the first byte is due

// Picture.
R(lcdc) R(stat) R(scy) R(scx) R(ly) R(lyc) R(bgp) R(obp0) R(obp1) R(wy) R(wx)
R(next_mode)   // the mode that begins at lcd_target
R(lcd_phase)   // what happens at lcd_target, where it is not plainly a mode
R(first_frame) // since the LCD was switched on: nothing is shown
R(lcd_restart) // switched on, and not yet begun
R(lyc_written) // LYC was written while the LCD was off
R(mode_hidden) // the next reading of STAT shows mode 0
R(stat_line)   // the line whose rising edge asks for the STAT interrupt
R(stretch)     // T-cycles by which mode 3 is longer than its least
R(lcd_start)   // when the picture's clock was 0
R(lcd_target)  // on that clock: the next change
R(window_hit)  // LY has met WY in this frame
R(window_line) // lines of the window drawn
R(frame_done)

// Cartridge.
R(rom_low) R(rom_high) R(ram_bank) // banks as seen at $0000, $4000 and $a000
R(ram_on)
R(bank_mode) R(bank_1) R(bank_2) // of the MBC1; of the MBC5 the low 8 bits and the ninth
R(clock_s) R(clock_m) R(clock_h) R(clock_dl) R(clock_dh) // as the clock runs; bits 0, 6 and 7 of dh: day 256, halt, carry
R(latch_s) R(latch_m) R(latch_h) R(latch_dl) R(latch_dh) // as they are read
R(latched)
R(clock_part) // T-cycles of the second that runs
R(clock_at)   // the time up to which the clock has run
